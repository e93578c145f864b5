//! Bearer tokens: only what was signed by the service's key, names a client and has not expired is
//! taken. The claims are signed here, so that their reader is reached.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::Request;
use libfuzzer_sys::fuzz_target;
use oms_core::Secret;
use oms_core::clock::ManualClock;
use oms_core::http::{Authenticator, TokenService};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let clients = BTreeMap::from([("app".to_owned(), Secret::from("secret"))]);
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let service = TokenService::new("tenant", clients, "key".into(), clock);
    let authenticate = |header: &[u8]| {
        let request = Request::get("/").header("authorization", header).body(()).ok()?;
        service.authenticate(&request.into_parts().0).ok()
    };
    if kind % 2 == 0 {
        assert!(authenticate(rest).is_none(), "nobody guesses a token");
        return;
    }
    let signed = format!("e30.{}", URL_SAFE_NO_PAD.encode(rest));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key").expect("any length");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    if authenticate(format!("Bearer {signed}.{signature}").as_bytes()).is_some() {
        let claims: serde_json::Value = serde_json::from_slice(rest).expect("claims are JSON");
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("tenant"), Some("app")));
        assert!(claims["exp"].as_i64().is_some_and(|exp| exp > 0));
    }
});
