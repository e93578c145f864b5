//! Bodies within limits.

use super::Refusal;
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::io::Read;
use std::time::Duration;

/// How much a route takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyLimits {
    /// The largest body as sent, in bytes.
    pub sent_bytes_max: usize,
    /// The largest body after inflation, in bytes.
    pub inflated_bytes_max: usize,
}

impl Default for BodyLimits {
    /// 1 MiB sent, 16 MiB inflated.
    fn default() -> Self {
        Self { sent_bytes_max: 1 << 20, inflated_bytes_max: 16 << 20 }
    }
}

/// How much of a refused request's body is read all the same, in bytes.
const DISCARDED_BYTES_MAX: usize = 256 << 10;

/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads what a refused request brings along, within limits, and throws it away: a sender that is
/// still writing when its connection is closed does not see the answer.
pub(super) async fn discard(mut body: Body) {
    if body.is_end_stream() {
        return;
    }
    let read = async {
        let mut count = 0;
        while count < DISCARDED_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            count += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever is slower than that loses the answer.
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, read).await;
}

/// Reads a body, or says why not.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Bytes, Refusal> {
    let sent = collect(body, limits.sent_bytes_max).await?;
    let encoding = headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    match encoding.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"" | b"identity") => Ok(sent),
        Some(b"gzip" | b"x-gzip") => inflate(MultiGzDecoder::new(&sent[..]), limits),
        // RFC 9110, 8.4.1.2: "deflate" is the zlib format.
        Some(b"deflate") => inflate(ZlibDecoder::new(&sent[..]), limits),
        Some(other) => {
            let name = String::from_utf8_lossy(other).into_owned();
            let message = format!("content encoding is not supported. encoding=`{name}`");
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
        }
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("body broke off: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            discard(body).await;
            return Err(too_large("as sent", limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn inflate(decoder: impl Read, limits: BodyLimits) -> Result<Bytes, Refusal> {
    let limit = limits.inflated_bytes_max;
    let mut bytes = Vec::new();
    match decoder.take(limit as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > limit => Err(too_large("inflated", limit)),
        Ok(_) => Ok(bytes.into()),
        Err(error) => {
            let message = format!("body does not fit its content encoding: {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "InvalidRequestContent", message))
        }
    }
}

fn too_large(which: &str, limit: usize) -> Refusal {
    let message = format!("body is too large {which}. limit_bytes=`{limit}`");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLarge", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    const LIMITS: BodyLimits = BodyLimits { sent_bytes_max: 400, inflated_bytes_max: 1000 };

    fn decoded(encoding: &str, bytes: &[u8]) -> Result<Bytes, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, encoding.parse().expect("a header"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = read(&headers, Body::from(bytes.to_vec()), LIMITS);
        runtime.block_on(body).map_err(|refusal| refusal.status)
    }

    fn encoded(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            "gzip" => GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut out),
            _ => ZlibEncoder::new(bytes, Compression::fast()).read_to_end(&mut out),
        }
        .expect("compressed");
        out
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_within_the_limit_or_refused(
            encoding in prop::sample::select(vec!["gzip", "deflate", "identity", "br"]),
            bytes in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            if let Ok(body) = decoded(encoding, &bytes) {
                prop_assert!(body.len() <= LIMITS.inflated_bytes_max);
            }
        }

        #[test]
        fn a_compressed_body_comes_back_or_is_too_large(
            encoding in prop::sample::select(vec!["gzip", "deflate"]),
            byte: u8,
            length in 0..2000_usize,
            cut in 1..100_usize,
        ) {
            let bytes = vec![byte; length];
            let sent = encoded(encoding, &bytes);
            match decoded(encoding, &sent) {
                Ok(body) => prop_assert_eq!(body, bytes),
                Err(status) => {
                    prop_assert!(length > LIMITS.inflated_bytes_max);
                    prop_assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
                }
            }
            // A part of it is not taken for the whole.
            let part = &sent[..sent.len().saturating_sub(cut)];
            prop_assert!(decoded(encoding, part).is_err() || part.is_empty());
        }
    }
}
