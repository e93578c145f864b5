//! Which types of resources there are, and who hangs child types below whose.

use super::{NameRules, ResourceError, ResourceId, ResourceType};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

/// The most types of one registry.
const TYPES_MAX: usize = 1_000;

/// Holds a resource that a service still has something in, and refuses one that it has no use for.
#[async_trait]
pub trait ResourceGuard: Debug + Send + Sync {
    /// Asked before a resource of the service's type, or one above it, is made.
    ///
    /// # Errors
    /// What is not supported; the resource is not made then.
    async fn check_create(&self, _id: &ResourceId) -> Result<(), &'static str> {
        Ok(())
    }

    /// Asked before a resource of the service's type, or one above it, is deleted.
    ///
    /// # Errors
    /// What is still in it, for the caller to read; the resource then stays.
    async fn check_delete(&self, id: &ResourceId) -> Result<(), String>;
}

/// One type of resource.
#[derive(Clone)]
pub struct TypeInfo {
    /// The type.
    pub resource_type: ResourceType,
    /// The services that use it: the one that registered a child type, every one that builds on a
    /// parent type.
    pub services: Vec<&'static str>,
    /// The names it takes.
    pub names: NameRules,
    /// Whether its resources are kept by [`Resources`](super::Resources) (with a location and
    /// tags), or by their service alone.
    pub is_tracked: bool,
    /// Whether several services may build on it and none owns it.
    pub is_shared: bool,
    guards: Vec<Arc<dyn ResourceGuard>>,
}

impl Debug for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeInfo")
            .field("resource_type", &self.resource_type)
            .field("services", &self.services)
            .field("is_tracked", &self.is_tracked)
            .finish_non_exhaustive()
    }
}

/// The types of every service of a process.
///
/// ```
/// use oms_core::resource::{NameRules, TypeRegistry};
///
/// let vaults = "Microsoft.RecoveryServices/vaults";
/// let registry = TypeRegistry::builder()
///     .parent("backup", vaults, NameRules::VAULT)
///     .child("backup", "Microsoft.RecoveryServices/vaults/backupPolicies", NameRules::ANY)
///     .parent("recovery", vaults, NameRules::VAULT)
///     .child("recovery", "Microsoft.RecoveryServices/vaults/replicationFabrics", NameRules::ANY)
///     .build()?;
/// let vault = registry.get(&vaults.parse()?).expect("registered");
/// assert_eq!(vault.services, ["backup", "recovery"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TypeRegistry {
    types: BTreeMap<String, TypeInfo>,
}

/// Why services' types do not go together: a mistake in the program, found at start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The text is not a type.
    #[error("not a resource type. service=`{service}`, type=`{text}`")]
    Type {
        /// Who registered it.
        service: &'static str,
        /// The text.
        text: String,
    },
    /// Two services own one child type.
    #[error(
        "resource type is owned twice. type=`{resource_type}`, first=`{first}`, second=`{second}`"
    )]
    Owned {
        /// The type.
        resource_type: ResourceType,
        /// Who registered it first.
        first: &'static str,
        /// Who registered it second.
        second: &'static str,
    },
    /// Two services build on one parent type and give it other names.
    #[error("resource type has two sets of names. type=`{resource_type}`, service=`{service}`")]
    Names {
        /// The type.
        resource_type: ResourceType,
        /// Who gave it other names.
        service: &'static str,
    },
    /// A child type's parent is not registered.
    #[error(
        "parent of the resource type is not registered. type=`{resource_type}`, service=`{service}`"
    )]
    NoParent {
        /// The child type.
        resource_type: ResourceType,
        /// Who registered it.
        service: &'static str,
    },
    /// More types than a registry holds.
    #[error("too many resource types. limit=`{TYPES_MAX}`")]
    TooMany,
}

impl TypeRegistry {
    /// A registry to fill.
    #[must_use]
    pub fn builder() -> TypeRegistryBuilder {
        TypeRegistryBuilder::default()
    }

    /// A type, if it is registered.
    #[must_use]
    pub fn get(&self, of: &ResourceType) -> Option<&TypeInfo> {
        self.types.get(&of.canonical())
    }

    /// Every type, in order of its name.
    pub fn iter(&self) -> impl Iterator<Item = &TypeInfo> {
        self.types.values()
    }

    /// Asks every guard of a type and of those below it whether a resource may be made.
    pub(super) async fn check_create(
        &self,
        of: &ResourceType,
        id: &ResourceId,
    ) -> Result<(), ResourceError> {
        for guard in self.guards(of) {
            let refused = guard.check_create(id).await;
            refused.map_err(|what| ResourceError::Unsupported { what, at: id.to_string() })?;
        }
        Ok(())
    }

    /// Asks every guard of a type and of those below it whether a resource may go.
    pub(super) async fn check_delete(
        &self,
        of: &ResourceType,
        id: &ResourceId,
    ) -> Result<(), ResourceError> {
        for guard in self.guards(of) {
            let held = guard.check_delete(id).await;
            held.map_err(|reason| ResourceError::Held { id: id.clone(), reason })?;
        }
        Ok(())
    }

    fn guards(&self, of: &ResourceType) -> impl Iterator<Item = &Arc<dyn ResourceGuard>> {
        let (own, below) = (of.canonical(), format!("{}/", of.canonical()));
        let is_asked = move |name: &str| name == own || name.starts_with(&below);
        let infos = self.types.iter().filter(move |(name, _)| is_asked(name));
        infos.flat_map(|(_, info)| &info.guards)
    }
}

#[derive(Debug)]
struct Wanted {
    service: &'static str,
    text: String,
    names: NameRules,
    is_shared: bool,
    is_tracked: bool,
    guard: Option<Arc<dyn ResourceGuard>>,
}

/// Collects the types of every service.
#[derive(Debug, Default)]
pub struct TypeRegistryBuilder {
    wanted: Vec<Wanted>,
}

impl TypeRegistryBuilder {
    /// A tracked type that several services may build on and none owns. Each registers it with
    /// the same names.
    #[must_use]
    pub fn parent(self, service: &'static str, of: &str, names: NameRules) -> Self {
        self.push(service, of, names, true, true)
    }

    /// A child type of one service, whose resources that service keeps itself.
    #[must_use]
    pub fn child(self, service: &'static str, of: &str, names: NameRules) -> Self {
        self.push(service, of, names, false, false)
    }

    /// A type of one service whose resources are kept as tracked resources.
    #[must_use]
    pub fn tracked(self, service: &'static str, of: &str, names: NameRules) -> Self {
        self.push(service, of, names, false, true)
    }

    /// Asks `guard` before resources of the type registered last go.
    #[must_use]
    pub fn guard(mut self, guard: Arc<dyn ResourceGuard>) -> Self {
        if let Some(last) = self.wanted.last_mut() {
            last.guard = Some(guard);
        }
        self
    }

    fn push(
        mut self,
        service: &'static str,
        of: &str,
        names: NameRules,
        is_shared: bool,
        is_tracked: bool,
    ) -> Self {
        let text = of.to_owned();
        self.wanted.push(Wanted { service, text, names, is_shared, is_tracked, guard: None });
        self
    }

    /// The registry.
    ///
    /// # Errors
    /// [`RegistryError`] where two services are in each other's way.
    pub fn build(self) -> Result<TypeRegistry, RegistryError> {
        let mut registry = TypeRegistry::default();
        for Wanted { service, text, names, is_shared, is_tracked, guard } in self.wanted {
            let Ok(resource_type) = text.parse::<ResourceType>() else {
                return Err(RegistryError::Type { service, text });
            };
            let key = resource_type.canonical();
            if let Some(found) = registry.types.get_mut(&key) {
                if !(is_shared && found.is_shared) {
                    let first = found.services.first().copied().unwrap_or_default();
                    return Err(RegistryError::Owned { resource_type, first, second: service });
                }
                if found.names != names {
                    return Err(RegistryError::Names { resource_type, service });
                }
                found.services.push(service);
                found.guards.extend(guard);
                continue;
            }
            if registry.types.len() == TYPES_MAX {
                return Err(RegistryError::TooMany);
            }
            let guards = guard.into_iter().collect();
            let services = vec![service];
            let info = TypeInfo { resource_type, services, names, is_tracked, is_shared, guards };
            registry.types.insert(key, info);
        }
        for info in registry.types.values() {
            let Some(parent) = info.resource_type.parent() else { continue };
            if !registry.types.contains_key(&parent.canonical()) {
                let service = info.services.first().copied().unwrap_or_default();
                let resource_type = info.resource_type.clone();
                return Err(RegistryError::NoParent { resource_type, service });
            }
        }
        Ok(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULTS: &str = "Microsoft.RecoveryServices/vaults";
    const ITEMS: &str = "microsoft.recoveryservices/VAULTS/items";

    #[test]
    fn services_share_parents_and_own_children() {
        let vaults = || TypeRegistry::builder().parent("a", VAULTS, NameRules::VAULT);
        let owned = vaults()
            .child("a", ITEMS, NameRules::ANY)
            .parent("b", VAULTS, NameRules::VAULT)
            .child("b", ITEMS, NameRules::ANY)
            .build();
        assert!(matches!(owned, Err(RegistryError::Owned { first: "a", second: "b", .. })));
        let names = vaults().parent("b", VAULTS, NameRules::ANY).build();
        assert!(matches!(names, Err(RegistryError::Names { service: "b", .. })));
        let taken = vaults().tracked("b", VAULTS, NameRules::VAULT).build();
        assert!(matches!(taken, Err(RegistryError::Owned { .. })));
        let orphan = TypeRegistry::builder().child("a", ITEMS, NameRules::ANY).build();
        assert!(matches!(orphan, Err(RegistryError::NoParent { .. })));
        let wrong = TypeRegistry::builder().child("a", "vaults", NameRules::ANY).build();
        assert!(matches!(wrong, Err(RegistryError::Type { .. })));
        // The order of services does not matter: a child may come before its parent.
        let late = TypeRegistry::builder()
            .child("b", ITEMS, NameRules::ANY)
            .parent("a", VAULTS, NameRules::VAULT)
            .build()
            .expect("goes together");
        assert_eq!(late.iter().count(), 2);
    }
}
