//! What every [`Authorizer`] must do.

use crate::auth::{AuthError, Authorizer, Grant, Principal, PrincipalKind};
use crate::resource::ResourceId;

/// Makes an authorizer that allows what these grants allow and nothing else.
pub type Make<'a> = &'a dyn Fn(Vec<Grant>) -> Box<dyn Authorizer>;

/// One requirement: its name and the function that checks it.
pub type Case = (&'static str, fn(Make<'_>));

const ACCOUNT: &str = "/subscriptions/s/resourceGroups/g/providers/Oms.Test/accounts/a";
const READ: &str = "Oms.Test/accounts/jobs/read";
const WRITE: &str = "Oms.Test/accounts/jobs/write";

fn resource(text: &str) -> ResourceId {
    text.parse().expect("a resource")
}

fn client(name: &str) -> Principal {
    Principal::new(PrincipalKind::ClientSecret, name)
}

fn grant(principal: &Principal, operation: &str, scope: &str) -> Grant {
    let (principal, operation) = (principal.clone(), operation.to_owned());
    Grant { principal, operation, scope: resource(scope) }
}

fn allows(made: &dyn Authorizer, who: &Principal, operation: &str, on: &str) -> bool {
    made.check(who, operation, &resource(on)).is_ok()
}

/// Nobody may do anything before it is granted, the owner of the data directory included.
pub fn nothing_is_allowed_without_a_grant(make: Make<'_>) {
    let made = make(Vec::new());
    for who in [Principal::local(), client("a"), client("")] {
        for (operation, on) in [(READ, ACCOUNT), (WRITE, "/"), ("*", "/"), ("", "/")] {
            assert!(!allows(&*made, &who, operation, on), "{who} {operation} {on}");
        }
    }
}

/// A grant is for one principal: others of that name, or of that kind, have nothing of it.
pub fn a_grant_is_of_its_principal(make: Make<'_>) {
    let made = make(vec![grant(&client("a"), "*", "/")]);
    assert!(allows(&*made, &client("a"), READ, ACCOUNT));
    let others = [
        client("b"),
        client("a "),
        client(""),
        client("*"),
        Principal::local(),
        Principal::new(PrincipalKind::Certificate, "a"),
        Principal::new(PrincipalKind::Local, "a"),
    ];
    for other in others {
        assert!(!allows(&*made, &other, READ, ACCOUNT), "{other}");
    }
}

/// A grant is for the operations of its pattern, without regard to ASCII case.
pub fn a_grant_is_of_its_operations(make: Make<'_>) {
    let who = client("a");
    let made = make(vec![grant(&who, "Oms.Test/*/read", ACCOUNT)]);
    assert!(allows(&*made, &who, READ, ACCOUNT));
    assert!(allows(&*made, &who, &READ.to_ascii_uppercase(), ACCOUNT));
    for other in [WRITE, "Oms.Test/accounts/jobs/read/action", "Oms.Other/accounts/read", "*", ""] {
        assert!(!allows(&*made, &who, other, ACCOUNT), "{other}");
    }
}

/// A grant reaches its scope and what is below it, without regard to ASCII case, and neither what
/// is above nor what is beside it, whatever the names begin with.
pub fn a_grant_reaches_down_only(make: Make<'_>) {
    let who = client("a");
    let made = make(vec![grant(&who, "*", ACCOUNT)]);
    let below = format!("{ACCOUNT}/jobs/1");
    for within in [ACCOUNT, &below, &below.to_ascii_uppercase()] {
        assert!(allows(&*made, &who, READ, within), "{within}");
    }
    let (longer, beside) = (format!("{ACCOUNT}b"), ACCOUNT.replace("/accounts/a", "/accounts/b"));
    let above = "/subscriptions/s/resourceGroups/g";
    for outside in [longer.as_str(), &beside, above, "/subscriptions/s", "/"] {
        assert!(!allows(&*made, &who, READ, outside), "{outside}");
    }
}

/// Of two grants each allows what it allows by itself; nothing is put together of both.
pub fn grants_do_not_mix(make: Make<'_>) {
    let (who, other) = (client("a"), client("b"));
    let beside = ACCOUNT.replace("/accounts/a", "/accounts/b");
    let grants =
        vec![grant(&who, READ, ACCOUNT), grant(&who, WRITE, &beside), grant(&other, "*", "/")];
    let made = make(grants);
    assert!(allows(&*made, &who, READ, ACCOUNT) && allows(&*made, &who, WRITE, &beside));
    assert!(!allows(&*made, &who, WRITE, ACCOUNT) && !allows(&*made, &who, READ, &beside));
    assert!(allows(&*made, &other, WRITE, ACCOUNT));
}

/// What is refused says who tried what on which resource.
pub fn a_refusal_names_the_call(make: Make<'_>) {
    let made = make(vec![grant(&client("a"), READ, ACCOUNT)]);
    let refused = made.check(&client("a"), WRITE, &resource(ACCOUNT));
    let expected = AuthError::denied(&client("a"), WRITE, &resource(ACCOUNT));
    assert_eq!(refused, Err(expected));
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] = &[$((stringify!($case), $case)),+];
    };
}
cases!(
    nothing_is_allowed_without_a_grant,
    a_grant_is_of_its_principal,
    a_grant_is_of_its_operations,
    a_grant_reaches_down_only,
    grants_do_not_mix,
    a_refusal_names_the_call
);

/// Runs every requirement as a test of its own; the factory makes an authorizer of grants.
#[macro_export]
macro_rules! authorizer_conformance {
    ($make:expr) => {
        $crate::authorizer_conformance!(@each $make;
            nothing_is_allowed_without_a_grant, a_grant_is_of_its_principal,
            a_grant_is_of_its_operations, a_grant_reaches_down_only, grants_do_not_mix,
            a_refusal_names_the_call);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[test]
            fn $case() {
                let make = $make;
                $crate::testkit::authorizer::$case(&|grants| Box::new(make(grants)));
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AnyOf, Grants, RoleAssignment, RoleAssignments, RoleDefinition};
    use crate::clock::ManualClock;
    use crate::entropy::{EntropyExt as _, SeededEntropy};
    use crate::journal::MemoryJournal;
    use std::sync::Arc;

    mod list {
        use super::*;
        crate::authorizer_conformance!(Grants::new);
    }

    /// A role for each grant, which is assigned to its principal.
    fn assigned(grants: Vec<Grant>) -> RoleAssignments {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let (entropy, by) = (SeededEntropy::new(1), Principal::local());
        futures::executor::block_on(async {
            let roles = RoleAssignments::open(Arc::new(MemoryJournal::default()), clock).await;
            let roles = roles.expect("roles");
            for Grant { principal, operation, scope } in grants {
                let role = entropy.uuid().to_string().parse().expect("an id");
                let defined = RoleDefinition::new(role, "Role", &[&operation], &[]);
                roles.define(defined.expect("a role"), &by).await.expect("defined");
                let id = entropy.uuid().to_string().parse().expect("an id");
                let assignment = RoleAssignment { id, principal, role, scope };
                roles.assign(assignment, &by).await.expect("assigned");
            }
            roles
        })
    }

    mod roles {
        use super::*;
        crate::authorizer_conformance!(assigned);
    }

    /// Every other grant is one of a list, the rest are roles.
    fn divided(grants: Vec<Grant>) -> AnyOf {
        let (mut listed, mut others) = (Vec::new(), Vec::new());
        for (number, grant) in grants.into_iter().enumerate() {
            if number % 2 == 0 { listed.push(grant) } else { others.push(grant) }
        }
        AnyOf(vec![Arc::new(Grants::new(listed)), Arc::new(assigned(others))])
    }

    mod any_of {
        use super::*;
        crate::authorizer_conformance!(divided);
    }

    mod any_of_in_the_other_order {
        use super::*;
        crate::authorizer_conformance!(|grants| {
            let AnyOf(mut both) = divided(grants);
            both.reverse();
            AnyOf(both)
        });
    }

    mod any_of_none {
        use super::*;

        #[test]
        fn nobody_is_allowed_anything() {
            nothing_is_allowed_without_a_grant(&|_none| Box::new(AnyOf(Vec::new())));
        }
    }
}
