//! The images that rows ask for: each address once, and who asks for it.

use rusqlite::params_from_iter;

use super::{Selection, Store, StoreError, stored, unsigned};

/// An address of an image, and the rows of the sheet that ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The address.
    pub address: String,
    /// How many rows.
    pub rows: u64,
    /// The line of the first.
    pub line: u64,
    /// Which row that is, from 1.
    row: u64,
}

impl Store {
    /// Collects the images that the selected rows ask for; answers how many distinct ones there are.
    /// [`Store::image`] then shows them one by one, so that none need be held in memory.
    ///
    /// # Errors
    ///
    /// A selection by a column that the sheet has not; a database that fails.
    pub fn collect_images(&self, selection: &Selection) -> Result<u64, StoreError> {
        let condition = selection.condition(self)?;
        self.connection.execute_batch(
            "DROP TABLE IF EXISTS temp.images;
             CREATE TEMP TABLE images(number INTEGER PRIMARY KEY, address TEXT, first INTEGER, rows INTEGER)",
        )?;
        let sql = format!(
            "INSERT INTO temp.images(address, first, rows)
             SELECT j.value, min(r.position) AS first, count(DISTINCT r.position)
             FROM samples s CROSS JOIN rows r ON r.position = s.row, json_each(r.generation, '$.image_urls') j
             WHERE r.generation IS NOT NULL AND s.idx = 0 AND {} GROUP BY j.value ORDER BY first, j.value",
            condition.sql
        );
        Ok(self.connection.execute(&sql, params_from_iter(condition.parameters))? as u64)
    }

    /// The image of this number, from 1, in the order in which the sheet first asks for them; `None`
    /// behind the last.
    ///
    /// # Errors
    ///
    /// When images are not collected, or the database fails.
    pub fn image(&self, number: u64) -> Result<Option<ImageUse>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT i.address, i.rows, r.line, r.position FROM temp.images i
             CROSS JOIN rows r ON r.position = i.first WHERE i.number = ?1",
        )?;
        let mut rows = statement.query([stored(number)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(ImageUse {
            address: row.get(0)?,
            rows: unsigned(row.get(1)?),
            line: unsigned(row.get(2)?),
            row: unsigned(row.get(3)?),
        }))
    }

    /// The first column of the image's first row that holds its address.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn column_of_image(&self, image: &ImageUse) -> Result<Option<String>, StoreError> {
        let sql = "SELECT fields FROM rows WHERE position = ?1";
        let fields: String = self.connection.query_one(sql, [stored(image.row)], |row| row.get(0))?;
        let fields: Vec<String> = serde_json::from_str(&fields)?;
        let place = fields.iter().position(|cell| cell.contains(&image.address));
        Ok(place.and_then(|place| self.columns().ok()?.into_iter().nth(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Format, Options, Reader};
    use crate::store::ImportOptions;

    #[test]
    fn each_address_is_there_once_with_who_asks_for_it() {
        let (a, b) = ("https://e.example/a.png", "https://e.example/b.png?x=%22");
        let sheet = format!(
            "prompt,type,image_urls,first_frame,samples,n\none,frames,{a}|{a},,3,x\ntwo,,,,1,x\n\
             three,frames,,{b},2,x\nfour,reference,\"[\"\"{b}\"\",\"\"{a}\"\"]\",,1,y\nbad,slow,{a},,1,x\n"
        );
        let input = Box::new(std::io::Cursor::new(sheet.into_bytes()));
        let reader = Reader::new("s", input, Format::Csv, &Options::default()).unwrap();
        let mut store = Store::scratch().unwrap();
        let options = ImportOptions { skip_invalid: true, accept_changes: false };
        assert_eq!(store.import(reader, &options).unwrap().invalid_rows, 1);
        let images = |selection: &Selection| {
            let count = store.collect_images(selection).unwrap();
            let images: Vec<_> = (1..).map_while(|number| store.image(number).unwrap()).collect();
            assert_eq!(images.len() as u64, count);
            let shown = images.iter().map(|image| {
                let column = store.column_of_image(image).unwrap();
                (image.address.clone(), image.rows, image.line, column.unwrap_or_default())
            });
            shown.collect::<Vec<_>>()
        };
        let row =
            |address: &str, rows, line, column: &str| (address.to_owned(), rows, line, column.to_owned());
        let all = images(&Selection::default());
        assert_eq!(all, [row(a, 2, 2, "image_urls"), row(b, 2, 4, "first_frame")]);
        let of_x = Selection { limit: None, filters: vec![("n".to_owned(), "x".to_owned())] };
        assert_eq!(images(&of_x), [row(a, 1, 2, "image_urls"), row(b, 1, 4, "first_frame")]);
        assert!(images(&Selection { limit: Some(0), filters: Vec::new() }).is_empty());
    }
}
