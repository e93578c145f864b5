//! Every requirement of a journal, on PostgreSQL, alone and behind a wrapper.

use super::Place;
use oms_core::testkit::fault::{Faults, Faulty};
use oms_core::testkit::journal::Kept;
use std::sync::Arc;

mod postgres {
    use super::*;

    oms_core::journal_conformance!(|| async {
        let place = Place::new();
        Kept::new(place.open().await, place)
    });
}

mod faulty {
    use super::*;

    oms_core::journal_conformance!(|| async {
        let place = Place::new();
        let journal = Faulty::new(place.open().await, Arc::new(Faults::new(1)));
        Kept::new(journal, place)
    });
}
