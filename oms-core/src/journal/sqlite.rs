/// Placeholder while the module is written.
#[derive(Debug)]
pub struct SqliteJournal;
