//! Differences of resources that consist of many files.

use super::Difference;

/// The most differences that are told; one more says that there are more.
const TOLD_MAX: usize = 50;

/// The first differences, and how many there are beside.
#[derive(Debug, Default)]
pub(super) struct Differences {
    first: Vec<Difference>,
    more: usize,
}

impl Differences {
    /// Adds one, which is made only if it is to be told.
    pub(super) fn add(&mut self, difference: impl FnOnce() -> Difference) {
        match self.first.len() < TOLD_MAX {
            true => self.first.push(difference()),
            false => self.more += 1,
        }
    }

    /// As they are told.
    pub(super) fn told(mut self) -> Vec<Difference> {
        if self.more > 0 {
            let more = format!("{} differences", self.more);
            self.first.push(Difference::new("more", more, "none"));
        }
        self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_not_made() {
        let (mut differences, mut made) = (Differences::default(), 0);
        for _ in 0..TOLD_MAX + 2 {
            differences.add(|| {
                made += 1;
                Difference::new("Contents", "old", "new")
            });
        }
        let told = differences.told();
        assert_eq!((made, told.len()), (TOLD_MAX, TOLD_MAX + 1));
        assert_eq!(told[TOLD_MAX].to_string(), "more is 2 differences, desired is none");
    }
}
