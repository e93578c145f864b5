//! A server that speaks S3.

use super::variable;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Ends what it started when it is dropped.
pub(super) struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A server that speaks S3 and has the bucket `bucket`, and its address.
pub(super) fn start() -> (Kept, String) {
    let python = variable("OMS_INTEROP_PYTHON", "a Python with the packages of .ci/interop.txt");
    let child = Command::new(&python)
        .args(["-c", include_str!("../s3.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
    let mut s3 = Kept(child);
    let mut port = String::new();
    let output = s3.0.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut port).expect("its port");
    let endpoint = format!("http://127.0.0.1:{}", port.trim());
    (s3, endpoint)
}
