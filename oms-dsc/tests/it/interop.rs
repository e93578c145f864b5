//! What other programs, and what others wrote, have to say.

#[cfg(target_os = "linux")]
mod package;

mod captured_by_others;

mod openssl;
