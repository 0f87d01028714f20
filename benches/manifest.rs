//! What reading a sheet costs: rows per second by format, beside the csv crate alone.
//!
//! `cargo bench --bench manifest`. The same rows in every format. The reader finds the encoding and the
//! delimiter, hashes the bytes, checks every row, and gives what it asks for; the csv crate only splits
//! the same rows, as CSV, into cells. The last lines are the ratios.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures real time and prints it"
)]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use batchveo::manifest::{Format, Options, Reader};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use serde_json::json;

const ROWS: usize = 20_000;

/// Turns of each format for the ratios.
const TURNS: usize = 7;

const COLUMNS: [&str; 6] = ["id", "prompt", "mode", "aspect_ratio", "seed", "campaign"];

/// The cells of row `n`; every third prompt needs quotes as CSV.
fn cells(n: usize) -> [String; 6] {
    let view =
        if n.is_multiple_of(3) { "gulls over wet cobbles, \"slow\" dolly" } else { "static wide shot" };
    [
        format!("harbour-{n:06}"),
        format!(
            "A fishing harbour at first light, take {n}: {view} along the quay, natural sound, soft haze"
        ),
        if n.is_multiple_of(2) { "fast" } else { "quality" }.to_owned(),
        "16:9".to_owned(),
        (n * 7 % 100_000).to_string(),
        "spring".to_owned(),
    ]
}

/// What a sheet of this format is called here.
fn path_of(folder: &Path, format: Format) -> PathBuf {
    folder.join("sheet").with_extension(format.as_str())
}

/// Formats that this build reads.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| *format != Format::Xlsx || cfg!(feature = "workbook"))
}

/// Writes the rows in a format.
fn write(path: &Path, format: Format) {
    let delimited = |delimiter| {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_path(path).expect("a file");
        writer.write_record(COLUMNS).expect("a disk");
        (0..ROWS).for_each(|row| writer.write_record(cells(row)).expect("a disk"));
        writer.flush().expect("a disk");
    };
    let objects = |open: &str, between: &str, close: &str| {
        let mut file = BufWriter::new(File::create(path).expect("a file"));
        for row in 0..ROWS {
            let object =
                json!(COLUMNS.into_iter().zip(cells(row)).collect::<std::collections::BTreeMap<_, _>>());
            write!(file, "{}{object}", if row == 0 { open } else { between }).expect("a disk");
        }
        writeln!(file, "{close}").expect("a disk");
        file.flush().expect("a disk");
    };
    match format {
        Format::Csv => delimited(b','),
        Format::Tsv => delimited(b'\t'),
        Format::Jsonl => objects("", "\n", ""),
        Format::Json => objects("[", ",\n", "]"),
        Format::Txt => {
            let prompts: String = (0..ROWS).map(|row| cells(row)[1].clone() + "\n").collect();
            fs::write(path, prompts).expect("a file");
        }
        Format::Xlsx => write_workbook(path),
    }
}

#[cfg(feature = "workbook")]
fn write_workbook(path: &Path) {
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (row, cells) in std::iter::once(COLUMNS.map(str::to_owned)).chain((0..ROWS).map(cells)).enumerate() {
        let row = u32::try_from(row).expect("few rows");
        sheet.write_row(row, 0, cells).expect("room");
    }
    workbook.save(path).expect("a file");
}

#[cfg(not(feature = "workbook"))]
fn write_workbook(_: &Path) {
    unreachable!("this build reads no workbooks")
}

/// Reads a sheet as a run does.
fn read(path: &Path) -> usize {
    let reader = Reader::open(path, &Options::default()).expect("a sheet");
    let sound = reader.filter(|record| record.as_ref().is_ok_and(|record| record.entry.is_ok()));
    sound.map(black_box).count()
}

/// Reads the sheet with the csv crate alone.
fn read_plainly(path: &Path) -> usize {
    let mut reader = csv::Reader::from_path(path).expect("a sheet");
    reader.records().filter(|record| black_box(record).is_ok()).count()
}

fn sheets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for format in formats() {
        let path = path_of(folder.path(), format);
        write(&path, format);
        assert_eq!(read(&path), ROWS, "{}", format.as_str());
    }
    assert_eq!(read_plainly(&path_of(folder.path(), Format::Csv)), ROWS);
    folder
}

fn manifest(criterion: &mut Criterion) {
    let folder = sheets();
    let mut group = criterion.benchmark_group("manifest");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(ROWS as u64));
    let csv = path_of(folder.path(), Format::Csv);
    group.bench_function("csv crate", |bencher| bencher.iter(|| read_plainly(&csv)));
    for format in formats() {
        let path = path_of(folder.path(), format);
        group.bench_function(BenchmarkId::from_parameter(format.as_str()), |bencher| {
            bencher.iter(|| read(&path));
        });
    }
    group.finish();
}

/// The fastest of some turns.
fn fastest(turn: impl Fn() -> usize) -> Duration {
    let time = || {
        let began = Instant::now();
        black_box(turn());
        began.elapsed()
    };
    (0..TURNS).map(|_| time()).min().expect("turns")
}

fn print_ratios() {
    let folder = sheets();
    let csv = path_of(folder.path(), Format::Csv);
    let plain = fastest(|| read_plainly(&csv));
    for format in formats() {
        let path = path_of(folder.path(), format);
        let ratio = fastest(|| read(&path)).as_secs_f64() / plain.as_secs_f64();
        println!("{}: {ratio:.1} times as long as the csv crate takes for the same rows", format.as_str());
    }
}

criterion_group!(benches, manifest);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` only tries whether benches run.
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratios();
    }
}
