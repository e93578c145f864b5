//! Every byte of a data file is covered.

use super::file::FileError;
use super::*;
use crate::repository::encode::encode;
use crate::schema::{COMPUTER, TIME_GENERATED, TableSchema};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};

/// A data file of a few thousand rows, with an index of terms.
fn encoded(rows: i64) -> Bytes {
    let schema = TableSchema::initial(&"Odd_CL".parse().expect("a name"));
    let text = crate::schema::Column {
        name: "Text".to_owned(),
        column_type: crate::schema::ColumnType::String,
    };
    let schema = schema.with_columns([text]);
    let times = TimestampMicrosecondArray::from_iter_values((0..rows).map(|n| n * 77_777));
    let texts = (0..rows).map(|n| format!("request {n} took {} long", n * 7_919 % 10_007));
    let batch = RecordBatch::try_from_iter_with_nullable([
        (TIME_GENERATED, Arc::new(times.with_timezone("UTC")) as ArrayRef, true),
        (COMPUTER, Arc::new(StringArray::from(vec!["pc"; rows as usize])), true),
        ("Text", Arc::new(StringArray::from_iter_values(texts)), true),
    ]);
    let mut files = encode(&schema, &batch.expect("rows")).expect("encoded");
    files.remove(0).bytes
}

static FILE: LazyLock<Bytes> = LazyLock::new(|| encoded(30_000));

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

fn path() -> Path {
    Path::from(format!("tables/Odd_CL/day=1970-01-01/part{FILE_SUFFIX}"))
}

/// A file as its table's log knows it, and as it is.
async fn stored(size: usize, bytes: impl Into<Bytes>) -> CheckedFile {
    let store = Arc::new(InMemory::new());
    store.put(&path(), bytes.into().into()).await.expect("put");
    CheckedFile { store, path: path(), size: size as u64, table: "Odd_CL".into() }
}

/// Reads all of a file; none if it is as it was written.
async fn damage(size: usize, bytes: impl Into<Bytes>) -> Option<crate::Damage> {
    let file = stored(size, bytes).await;
    let read = match file.sums().await {
        Ok(sums) => file.verify(&sums).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(()) => None,
        Err(FileError::Damaged(damage)) => Some(damage),
        Err(FileError::Store(error)) => panic!("{error}"),
    }
}

#[test]
fn a_flip_of_any_byte_is_found_and_told_by_its_block() {
    let file = FILE.clone();
    assert!(file.len() as u64 > 6 * BLOCK_BYTES, "{}", file.len());
    runtime().block_on(async {
        assert_eq!(damage(file.len(), file.clone()).await, None);
        let sums = stored(file.len(), file.clone()).await.sums().await.expect("sums");
        let all = file.len();
        // Each byte of what is read first, and each block of the rest at its ends.
        let end = sums.sums_at() as usize..all;
        let blocks = (0..sums.sums_at() as usize).filter(|at| at % 1_021 == 0 || at % 16_384 < 2);
        for at in end.chain(blocks) {
            let mut bytes = file.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let Some(found) = damage(all, bytes).await else { panic!("byte {at}") };
            let part = format!("day=1970-01-01/part{FILE_SUFFIX}");
            assert_eq!((found.table.as_str(), found.file), ("Odd_CL", part));
            if (at as u64) < sums.sums_at() {
                let block = sums.block_at(at as u64).1;
                assert_eq!(found.offset, block.start, "byte {at}");
            }
        }
    });
}

#[test]
fn a_file_that_is_cut_or_grew_is_damaged() {
    let file = FILE.clone();
    runtime().block_on(async {
        let all = file.len();
        for length in [0, 1, 7, 8, 9, 1_000, all / 2, all - 100, all - 8, all - 1] {
            let found = damage(all, file.slice(..length)).await;
            assert!(found.is_some_and(|it| it.offset == length as u64), "{length} bytes");
        }
        let mut longer = file.to_vec();
        longer.extend_from_slice(b"PAR1");
        assert_eq!(damage(all, longer.clone()).await, None, "what is behind is nobody's");
        assert!(damage(all + 4, longer).await.is_some());
    });
}

#[test]
fn pieces_make_the_same_sums_as_the_whole() {
    let bytes: Vec<u8> = (0..50_000_u32).map(|n| (n * 31 / 7) as u8).collect();
    let (mut whole, mut pieces) = (SumsBuilder::default(), SumsBuilder::default());
    whole.add(&bytes);
    bytes.chunks(777).for_each(|piece| pieces.add(piece));
    assert_eq!(whole.sums, pieces.sums);
    assert_eq!(whole.sums.len(), 3);
    let first = crc32c::crc32c(&bytes[..BLOCK_BYTES as usize]);
    assert_eq!(whole.sums[0], first);
}

#[test]
fn a_footer_that_is_longer_than_what_is_read_first_is_read_whole() {
    // Page indexes of long text and many columns.
    let rows = RecordBatch::try_from_iter((0..1_000).map(|n| {
        let texts = (0..20).map(|row| format!("{row:02}{}", "x".repeat(600)));
        (format!("C{n}"), Arc::new(StringArray::from_iter_values(texts)) as ArrayRef)
    }));
    let rows = rows.expect("rows");
    let mut encoder = crate::repository::encode::FileEncoder::start(&rows).expect("an encoder");
    encoder.write(&rows).expect("written");
    let mut file = encoder.take().to_vec();
    file.extend_from_slice(&encoder.finish().expect("a file"));
    runtime().block_on(async {
        let all = file.len();
        let sums = stored(all, file.clone()).await.sums().await.expect("sums");
        assert!(sums.end().len() > 256 << 10, "{}", sums.end().len());
        assert_eq!(damage(all, file.clone()).await, None);
        let at = sums.sums_at() as usize + 10;
        file[at] ^= 1;
        assert!(damage(all, file).await.is_some());
    });
}

proptest! {
    #[test]
    fn ranges_are_read_as_they_are_in_the_file(
        places in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64), 1..6),
        flip in prop::option::of(0.0..1.0_f64),
    ) {
        let mut bytes = FILE.to_vec();
        let all = bytes.len() as f64;
        let ranges: Vec<Range<u64>> = places
            .iter()
            .map(|(start, end)| {
                let (start, end) = ((start * all) as u64, (end * all) as u64);
                start.min(end)..start.max(end)
            })
            .collect();
        runtime().block_on(async {
            let sums = stored(bytes.len(), bytes.clone()).await.sums().await.expect("sums");
            let flipped = flip.map(|flip| (flip * all) as usize);
            if let Some(at) = flipped {
                bytes[at] ^= 4;
            }
            // The end was read before.
            let file = stored(bytes.len(), bytes).await;
            match file.read(&sums, &ranges).await {
                Ok(read) => {
                    for (range, read) in ranges.iter().zip(read) {
                        let (start, end) = (range.start as usize, range.end as usize);
                        prop_assert_eq!(&read[..], &FILE[start..end]);
                    }
                }
                Err(FileError::Damaged(_)) => prop_assert!(flipped.is_some()),
                Err(FileError::Store(error)) => panic!("{error}"),
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_the_end_of_a_file_or_not(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        data_end in 0..100_000_u64,
        index in 0..40_000_u64,
        more in 0..100_u64,
    ) {
        let sums_at = data_end + index;
        let mut bytes = noise.clone();
        let size = bytes.len() as u64 + more;
        let _ = Sums::decode(&bytes.clone().into(), size);
        let (table, mark) = SumsBuilder::places(data_end, sums_at);
        bytes.splice(0..0, table);
        bytes.extend_from_slice(mark.as_bytes());
        bytes.extend_from_slice(&noise);
        let at = sum_place(&bytes);
        prop_assume!(at.is_some_and(|at| !noise.windows(MARK.len()).any(|it| it == MARK) && at > 0));
        let sum = format!("{:08x}", sum_of_end(&bytes, at.unwrap_or(0)));
        bytes[at.unwrap_or(0)..][..SUM_DIGITS].copy_from_slice(sum.as_bytes());
        let size = sums_at + bytes.len() as u64;
        let Ok(Decoded::Sums(sums)) = Sums::decode(&bytes.into(), size) else {
            panic!("a mark that is right");
        };
        prop_assert_eq!((sums.data_end, sums.sums_at), (data_end, sums_at));
    }
}
