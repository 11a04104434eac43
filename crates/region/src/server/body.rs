//! Reading a request's body: bounded in size, in time, and all bodies together.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::limits;

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TooSlow,
    /// The connection broke off; nobody is there to hear.
    Broken,
}

/// How much memory bodies may hold together, in units of 64 KiB.
#[derive(Debug)]
pub(super) struct Budget {
    units: Semaphore,
}

const UNIT_BYTES: usize = 64 << 10;

impl Default for Budget {
    fn default() -> Self {
        Self { units: Semaphore::new(limits::BODIES_BYTES_MAX / UNIT_BYTES) }
    }
}

impl Budget {
    /// Reads a whole body; the permit holds its place in the budget.
    pub(super) async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        bytes_max: usize,
    ) -> Result<(Bytes, SemaphorePermit<'_>), BodyError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let stated =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if stated.is_some_and(|stated: usize| bytes_max < stated) {
            return Err(BodyError::TooLarge);
        }
        let units = stated.unwrap_or(bytes_max).div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let reading = async {
            let permit = self.units.acquire_many(units).await.map_err(|_| BodyError::Broken)?;
            match Limited::new(body, bytes_max).collect().await {
                Ok(read) => Ok((read.to_bytes(), permit)),
                Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
                Err(_) => Err(BodyError::Broken),
            }
        };
        tokio::time::timeout(limits::BODY_WAIT_MAX, reading)
            .await
            .unwrap_or(Err(BodyError::TooSlow))
    }
}
