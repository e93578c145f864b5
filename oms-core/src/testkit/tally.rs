//! Counts of what went wrong in a simulated world: a fault that silently never happens proves nothing.

/// A struct of counts that can be added up, and asked which of them are zero.
macro_rules! tally {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)+
        }

        impl $name {
            /// The names of what never happened. A test over a fixed set of seeds asserts that they
            /// are none.
            #[must_use]
            pub fn never(&self) -> Vec<&'static str> {
                let counts = [$((stringify!($field), self.$field)),+];
                counts.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

pub(super) use tally;
