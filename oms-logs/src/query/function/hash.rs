//! Hashes of scalars.

use super::arguments::Args;
use super::kernel::call as kernel_call;
use super::{Call, Function, Naming, Parameter, kernel, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;
use md5::Digest as _;
use std::fmt::Write as _;
use twox_hash::XxHash64;

const PLAIN: Naming = Naming::Default;
const TEXT: &[Parameter] = &[Parameter::Text];

pub(super) const FUNCTIONS: &[Function] = &[
    special("hash", PLAIN, |call, arguments| bind(call, "hash", arguments)),
    special("hash_xxhash64", PLAIN, |call, arguments| bind(call, "hash_xxhash64", arguments)),
    kernel("hash_many", PLAIN, &[Parameter::Any, Parameter::Any], KqlType::Long, hash_many)
        .optional(1)
        .repeated(),
    kernel("hash_combine", PLAIN, &[Parameter::Long, Parameter::Long], KqlType::Long, combine)
        .repeated(),
    kernel("hash_md5", PLAIN, TEXT, KqlType::String, |args| {
        digest(args, |bytes| hex(&md5::Md5::digest(bytes)))
    }),
    kernel("hash_sha1", PLAIN, TEXT, KqlType::String, |args| {
        digest(args, |bytes| hex(&sha1::Sha1::digest(bytes)))
    }),
    kernel("hash_sha256", PLAIN, TEXT, KqlType::String, |args| {
        digest(args, |bytes| hex(&sha2::Sha256::digest(bytes)))
    }),
];

/// `hash(value)`, or `hash(value, buckets)` from 0 to below the count of buckets.
fn bind(call: &Call<'_>, name: &'static str, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 2)?;
    if let Some(buckets) = arguments.get(1)
        && !matches!(buckets.kql_type, KqlType::Int | KqlType::Long)
    {
        let message = format!("`{name}` takes a count of buckets, not {}", buckets.kql_type);
        return Err(Problem::semantic(buckets.span, message));
    }
    Ok(kernel_call(name, hash, arguments, KqlType::Long, call.span))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of an argument: UTF-8 of text, little-endian numbers and counts of ticks.
fn each_bytes(args: &Args<'_>, at: usize, mut each: impl FnMut(usize, &[u8])) -> DfResult<()> {
    match args.kql_type(at)? {
        KqlType::Bool => {
            let value = args.bool(at)?;
            (0..args.rows)
                .for_each(|row| each(row, &[u8::from(value.get(row).unwrap_or_default())]));
        }
        KqlType::Int => {
            let value = args.long(at)?;
            (0..args.rows).for_each(|row| {
                let value = i32::try_from(value.get(row).unwrap_or_default()).unwrap_or_default();
                each(row, &value.to_le_bytes());
            });
        }
        KqlType::Long | KqlType::DateTime | KqlType::TimeSpan => {
            let value = args.long(at)?;
            (0..args.rows)
                .for_each(|row| each(row, &value.get(row).unwrap_or_default().to_le_bytes()));
        }
        KqlType::Real => {
            let value = args.real(at)?;
            (0..args.rows)
                .for_each(|row| each(row, &value.get(row).unwrap_or_default().to_le_bytes()));
        }
        KqlType::Guid => {
            let value = args.text(at)?;
            (0..args.rows).for_each(|row| {
                let guid = uuid::Uuid::try_parse(value.get(row)).unwrap_or_default();
                each(row, &guid.to_bytes_le());
            });
        }
        KqlType::Dynamic => {
            let value = args.dynamic(at)?;
            (0..args.rows)
                .for_each(|row| each(row, super::text_of_dynamic(value.get(row)).as_bytes()));
        }
        KqlType::String | KqlType::Decimal => {
            let value = args.text(at)?;
            (0..args.rows).for_each(|row| each(row, value.get(row).as_bytes()));
        }
    }
    Ok(())
}

fn hashes(args: &Args<'_>, at: usize) -> DfResult<Vec<u64>> {
    let mut hashes = Vec::with_capacity(args.rows);
    each_bytes(args, at, |_, bytes| hashes.push(XxHash64::oneshot(0, bytes)))?;
    Ok(hashes)
}

fn hash(args: &Args<'_>) -> DfResult<ArrayRef> {
    let hashes = hashes(args, 0)?;
    let buckets = if args.len() > 1 { Some(args.long(1)?) } else { None };
    Ok(args.make_long(|row| {
        let hash = *hashes.get(row)?;
        let Some(buckets) = &buckets else { return Some(hash.cast_signed()) };
        let buckets = u64::try_from(buckets.get(row)?).ok().filter(|buckets| *buckets > 0)?;
        Some((hash % buckets).cast_signed())
    }))
}

/// Both hashes in one, which depends on their order.
const fn mixed(seed: u64, hash: u64) -> u64 {
    let spread = (seed << 6).wrapping_add(seed >> 2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    seed ^ hash.wrapping_add(spread)
}

fn combine(args: &Args<'_>) -> DfResult<ArrayRef> {
    let parts = (0..args.len()).map(|at| args.long(at)).collect::<DfResult<Vec<_>>>()?;
    Ok(args.make_long(|row| {
        parts
            .iter()
            .try_fold(0, |seed, part| Some(mixed(seed, part.get(row)?.cast_unsigned())))
            .map(u64::cast_signed)
    }))
}

fn hash_many(args: &Args<'_>) -> DfResult<ArrayRef> {
    let parts = (0..args.len()).map(|at| hashes(args, at)).collect::<DfResult<Vec<_>>>()?;
    Ok(args.make_long(|row| {
        parts
            .iter()
            .try_fold(0, |seed, part| Some(mixed(seed, *part.get(row)?)))
            .map(u64::cast_signed)
    }))
}

/// Of a value's text, unlike the hashes above.
fn digest(args: &Args<'_>, digest: impl Fn(&[u8]) -> String) -> DfResult<ArrayRef> {
    let text = args.text(0)?;
    Ok(args.make_text(|row| Some(digest(text.get(row).as_bytes()))))
}
