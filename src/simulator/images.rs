//! Images as the API sees them: fetched when they are asked for, and some to try that with.
//!
//! A service fetches the images of a request itself and fails the task if they are not as they should
//! be. With `--fetch-images` this one does, with the very eyes of `check --images`. `GET /images/NAME`
//! shows a few sound and unsound ones; nothing else about the service changes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use futures::{StreamExt, stream};
use serde_json::Value;

use super::fate::FailCode;
use crate::hosts::Client;
use crate::images::{LARGEST, Look, look};

/// Longest look, in real time: a submission waits for the looks at its images, and gives up itself.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Addresses whose images are remembered; then all are forgotten.
const REMEMBERED: usize = 10_000;

/// A PNG, a JPG and a WebP of one pixel.
const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\
    \xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\xa6\xb7\x9b\x6c\0\0\0\0IEND\xaeB`\x82";
const JPG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9";
const WEBP: &[u8] = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0";
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\0\0\0;";
const PAGE: &str = "<!DOCTYPE html><html><body>Log in to see this image.</body></html>\n";

/// One piece of an image that is too large.
const PIECE: usize = 64 * 1024;

/// The images to try.
pub(super) async fn sample(Path(name): Path<String>) -> Response {
    let image =
        |kind: &'static str, bytes: &'static [u8]| ([(header::CONTENT_TYPE, kind)], bytes).into_response();
    match name.as_str() {
        "good.png" => image("image/png", PNG),
        "good.jpg" => image("image/jpeg", JPG),
        "good.webp" => image("image/webp", WEBP),
        // The name and the declared type promise nothing.
        "not-an-image.png" => ([(header::CONTENT_TYPE, "image/png")], PAGE).into_response(),
        "animation.gif" => image("image/gif", GIF),
        "moved.png" => Redirect::temporary("good.png").into_response(),
        "inside.png" => Redirect::temporary("http://169.254.169.254/latest/meta-data/").into_response(),
        "private.png" => StatusCode::FORBIDDEN.into_response(),
        "huge.jpg" => huge(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A JPG of a byte more than the API takes.
fn huge() -> Response {
    let length = LARGEST + 1;
    let pieces = stream::iter((0..length).step_by(PIECE)).map(move |at| {
        let size = usize::try_from(length - at).map_or(PIECE, |left| left.min(PIECE));
        let mut piece = vec![0; size];
        if at == 0 {
            piece[..JPG.len()].copy_from_slice(JPG);
        }
        Ok::<_, std::io::Error>(Bytes::from(piece))
    });
    (
        [(header::CONTENT_TYPE, "image/jpeg".to_owned()), (header::CONTENT_LENGTH, length.to_string())],
        Body::from_stream(pieces),
    )
        .into_response()
}

/// Looks at the images of submissions.
#[derive(Debug)]
pub(super) struct Eyes {
    client: Client,
    /// What became of those seen before: what their tasks fail with, if they do.
    known: Mutex<HashMap<String, Option<FailCode>>>,
}

impl Eyes {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// What a task fails with that is submitted in `body`, if its images are not as they should be.
    pub(super) async fn judge(&self, body: &[u8]) -> Option<FailCode> {
        let body: Value = serde_json::from_slice(body).ok()?;
        for address in body.pointer("/input/image_urls")?.as_array()?.iter().filter_map(Value::as_str) {
            let known = self.known().get(address).copied();
            let flaw = match known {
                Some(flaw) => flaw,
                None => self.look(address).await,
            };
            if flaw.is_some() {
                return flaw;
            }
        }
        None
    }

    async fn look(&self, address: &str) -> Option<FailCode> {
        let flaw = match tokio::time::timeout(LONGEST_LOOK, look(&self.client, address)).await {
            Ok(Look::Sound(_)) => None,
            Ok(Look::Flawed(flaw)) => FailCode::named(flaw.code()),
            // It may be otherwise at the next submission.
            Ok(Look::Unclear(flaw, _)) => return FailCode::named(flaw.code()),
            Err(_) => return FailCode::named("IMAGE_DOWNLOAD_FAILED"),
        };
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(address.to_owned(), flaw);
        flaw
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<FailCode>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
