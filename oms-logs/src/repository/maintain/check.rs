//! Looking for damage at rest, and putting it aside.
//!
//! ```text
//!  each table ──► its Delta log: every commit and checkpoint that is there ──► findings
//!            └──► its data files: footers and checksums, and with `reads_data` every block
//!  a damaged data file ──► copied to _oms/quarantine/ in the table's folder, with a note ──► removed
//!                          from the table by a commit ──► the rest is readable
//! ```

use super::commit::Change;
use crate::error::Damage;
use crate::repository::integrity::{CheckedFile, FileError, file_in_table};
use crate::repository::snapshot::DataFile;
use crate::repository::table::Table;
use crate::workspace::Inner;
use crate::{Error, Workspace};
use deltalake_core::protocol::DeltaOperation;
use object_store::ObjectStoreExt as _;
use object_store::path::Path as ObjectPath;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use std::sync::Arc;

/// Where damaged data files are kept, in their table's folder.
const QUARANTINE: &str = "_oms/quarantine";

/// What a check looks at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckOptions {
    /// Only this table.
    pub table: Option<RecordType>,
    /// Reads every byte of every data file, in place of their footers alone.
    pub reads_data: bool,
    /// Puts damaged data files aside, so that the rest of their table can be read.
    pub quarantines: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CheckReport {
    /// Everything that is damaged, by table and file.
    pub findings: Vec<Finding>,
    /// Tables that were looked at.
    pub tables: usize,
    /// Data files that were.
    pub files: usize,
    /// Those of them without checksums: written before there were any, or by someone else.
    pub files_without_checksums: usize,
    /// Files of Delta logs that were.
    pub log_files: usize,
    /// Bytes of data files that were verified.
    pub bytes: u64,
}

impl CheckReport {
    /// Rows of data files that were put aside.
    #[must_use]
    pub fn rows_lost(&self) -> u64 {
        let aside = self.findings.iter().filter(|finding| finding.is_aside);
        aside.filter_map(|finding| finding.rows).sum()
    }
}

/// One file that is damaged.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// Where, and what is wrong.
    pub damage: Damage,
    /// Rows of the file, if it is a data file and the table's log tells.
    pub rows: Option<u64>,
    /// Whether the file is not in its table any more.
    pub is_aside: bool,
    /// Where the file is kept, below the table's folder; none if nothing of it is there.
    pub kept: Option<String>,
}

impl Workspace {
    /// Looks for damage at rest: reads the Delta logs of the tables, and the footers and checksums of
    /// their data files or all of them, as they are in the store. With
    /// [`quarantines`](CheckOptions::quarantines) damaged data files are copied into a folder of
    /// their table, and removed from the table by a commit; its other rows can be read then. The write-ahead
    /// log is checked when a workspace is opened, see
    /// [`quarantine`](crate::workspace::WorkspaceBuilder::quarantine).
    ///
    /// A damaged Delta log is told and left, and so are the data files of its table: bring its file back
    /// from a copy, and check again. Files that were put aside are kept until somebody removes them;
    /// retention and purges do not look into them.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::File`], [`Error::Delta`] if a file could not be looked at;
    /// [`Error::MaintainedElsewhere`]; [`Error::Unsupported`] if there is no such table;
    /// [`Error::Closed`]. What is damaged is no error.
    pub async fn check(&self, options: &CheckOptions) -> Result<CheckReport, Error> {
        self.inner()?.check(options).await
    }
}

impl Inner {
    async fn check(&self, options: &CheckOptions) -> Result<CheckReport, Error> {
        let _one_at_a_time = self.keep.working.lock().await;
        let tables = match &options.table {
            Some(name) => vec![(name.clone(), self.existing(name)?)],
            None => self.tables.all(),
        };
        let mut report = CheckReport::default();
        for (_, table) in tables {
            report.tables += 1;
            let from = report.findings.len();
            self.check_log(&table, &mut report).await?;
            let mut damaged = Vec::new();
            for file in table.view().files.iter() {
                report.files += 1;
                if let Some(damage) = check_file(&table, file, options, &mut report).await? {
                    damaged.push((file.clone(), damage));
                }
            }
            let mut found: Vec<Finding> = damaged
                .iter()
                .map(|(file, damage)| Finding {
                    damage: damage.clone(),
                    rows: file.stats.num_records,
                    is_aside: false,
                    kept: None,
                })
                .collect();
            // A log with damage anywhere takes no commit: it would be made and not be read again, and
            // nobody could tell what it removed.
            let is_log_whole = report.findings.len() == from;
            if options.quarantines && !damaged.is_empty() && is_log_whole {
                self.put_files_aside(&table, damaged, &mut found).await?;
            }
            report.findings.extend(found);
            report.findings[from..].sort_by(|a, b| a.damage.cmp(&b.damage));
        }
        Ok(report)
    }

    /// Looks whether the table can be read, and at every file of its log.
    async fn check_log(&self, table: &Table, report: &mut CheckReport) -> Result<(), Error> {
        let refreshed = table.refresh(|bytes| self.memory.release(bytes)).await;
        let mut damages = match refreshed {
            Ok(()) => Vec::new(),
            Err(Error::Damaged(damage)) => vec![damage],
            Err(error) => return Err(error),
        };
        let (looked_at, found) = table.log_damages().await?;
        report.log_files += looked_at;
        for damage in found {
            if !damages.iter().any(|known| known.file == damage.file) {
                damages.push(damage);
            }
        }
        report.findings.extend(damages.into_iter().map(|damage| Finding {
            damage,
            rows: None,
            is_aside: false,
            kept: None,
        }));
        Ok(())
    }

    /// Takes damaged files out of their table; `findings` are theirs, in the same order.
    async fn put_files_aside(
        &self,
        table: &Table,
        damaged: Vec<(DataFile, Damage)>,
        findings: &mut [Finding],
    ) -> Result<(), Error> {
        let epoch = self.tend(table).await?;
        let now = self.clock.now();
        for ((file, damage), finding) in damaged.iter().zip(findings.iter_mut()) {
            finding.kept = keep(table, file, damage, &now.to_string()).await?;
        }
        let change = Change {
            removed: damaged.into_iter().map(|(file, _)| file.path).collect(),
            added: Vec::new(),
            changes_rows: true,
            operation: DeltaOperation::Delete { predicate: None },
            epoch,
            settings: None,
        };
        let made = table.change(&change, now, |bytes| self.memory.release(bytes)).await?;
        for finding in findings {
            finding.is_aside = made;
            tracing::error!(damage = %finding.damage, rows = finding.rows, made, "put aside");
        }
        Ok(())
    }
}

/// Copies a damaged file, and writes down what is wrong with it; answers where. None if it is gone.
async fn keep(
    table: &Table,
    file: &DataFile,
    damage: &Damage,
    now: &str,
) -> Result<Option<String>, Error> {
    let store = table.home().store();
    let name = format!("{QUARANTINE}/{}", file_in_table(&file.path));
    let root = table.home().path()?;
    let within =
        |name: &str| -> ObjectPath { root.parts().chain(ObjectPath::from(name).parts()).collect() };
    match store.copy(&file.path, &within(&name)).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        copied => copied.map_err(Error::file(table.name()))?,
    }
    let note = json!({
        "table": damage.table, "file": damage.file, "offset": damage.offset,
        "reason": damage.reason, "rows": file.stats.num_records, "putAside": now,
    });
    let text = serde_json::to_vec_pretty(&note);
    let text = text.map_err(|error| Error::Internal { what: error.to_string() })?;
    let put = store.put(&within(&format!("{name}.json")), text.into()).await;
    put.map_err(Error::file(table.name()))?;
    Ok(Some(name))
}

/// What is wrong with a data file, if anything is.
async fn check_file(
    table: &Table,
    file: &DataFile,
    options: &CheckOptions,
    report: &mut CheckReport,
) -> Result<Option<Damage>, Error> {
    let checked = CheckedFile {
        store: Arc::clone(table.home().store()),
        path: file.path.clone(),
        size: file.size,
        table: table.name().as_str().into(),
    };
    let damage = |offset: u64, reason: String| {
        let (table, file) = (table.name().to_string(), file_in_table(&file.path));
        Ok(Some(Damage { table, file, offset, reason }))
    };
    let read = match CheckedFile::is_checked(&file.path) {
        true => match checked.sums().await {
            Ok(sums) if options.reads_data => {
                report.bytes += file.size;
                checked.verify(&sums).await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        false => {
            report.files_without_checksums += 1;
            match checked.whole(options.reads_data).await {
                Ok(Some(bytes)) => {
                    report.bytes += file.size;
                    return match blocking(move || Ok::<_, Error>(decode_all(bytes))).await? {
                        Ok(()) => Ok(None),
                        Err(reason) => damage(0, reason),
                    };
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            }
        }
    };
    match read {
        Ok(()) => Ok(None),
        Err(FileError::Damaged(damage)) => Ok(Some(damage)),
        Err(FileError::Store(object_store::Error::NotFound { .. })) => {
            damage(0, "it is gone".to_owned())
        }
        Err(FileError::Store(error)) => Err(Error::file(table.name())(error)),
    }
}

/// Decodes every row of a file that has no checksums.
fn decode_all(bytes: bytes::Bytes) -> Result<(), String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|it| it.build());
    for batch in reader.map_err(|error| error.to_string())? {
        batch.map_err(|error| error.to_string())?;
    }
    Ok(())
}
