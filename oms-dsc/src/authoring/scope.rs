//! What expressions see, and what they may cost.

use super::expression::is_expression;
use super::tree::{Kind, Tree};
use crate::configuration::meant;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How much the expressions of one node may make, in bytes of memory: several times of what its
/// document may have.
const BYTES_MAX: usize = 128 << 20;

/// How many resources of composites, and of the document itself, are looked at for one node.
const STEPS_MAX: usize = 100_000;

/// How deep lists and objects may lie in each other.
const DEPTH_MAX: usize = 32;

/// What one node may cost. It is spent by every scope of the node.
pub(super) struct Budget {
    bytes: Cell<usize>,
    steps: Cell<usize>,
    is_exhausted: Cell<bool>,
}

impl Budget {
    pub(super) fn new() -> Rc<Self> {
        let (bytes, steps) = (Cell::new(BYTES_MAX), Cell::new(STEPS_MAX));
        Rc::new(Self { bytes, steps, is_exhausted: Cell::new(false) })
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted.get()
    }

    /// Ends the work on this node; the caller has told why.
    pub(super) fn exhaust(&self) {
        self.is_exhausted.set(true);
    }

    /// Pays for what was made.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), String> {
        self.spend(&self.bytes, bytes, || {
            format!("the expressions of one node make more than {BYTES_MAX} bytes")
        })
    }

    /// Pays for a look at one more resource.
    pub(super) fn step(&self) -> Result<(), String> {
        self.spend(&self.steps, 1, || {
            format!("composites come to more than {STEPS_MAX} resources of one node")
        })
    }

    fn spend(
        &self,
        left: &Cell<usize>,
        amount: usize,
        refusal: impl FnOnce() -> String,
    ) -> Result<(), String> {
        match left.get().checked_sub(amount) {
            Some(rest) if !self.is_exhausted() => {
                left.set(rest);
                Ok(())
            }
            _ => {
                self.exhaust();
                Err(refusal())
            }
        }
    }
}

/// A value, and the secret that is in it.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) value: Value,
    pub(super) secure: Option<Secure>,
}

/// What makes a value a secret.
#[derive(Clone)]
pub(super) struct Secure {
    /// The secure parameter that is in it.
    pub(super) parameter: String,
    /// Whether a credential may be made of it: whatever is a secret in it is a password, or a whole
    /// secure object, whose user name is no secret.
    pub(super) is_account: bool,
}

/// What an expression can see.
pub(super) struct Scope {
    /// The node's name.
    pub(super) node: String,
    pub(super) parameters: BTreeMap<String, Bound>,
    /// Composites share them with what is around them.
    pub(super) variables: Rc<BTreeMap<String, Bound>>,
    /// What is said of the node.
    pub(super) data: Rc<BTreeMap<String, Bound>>,
    /// What is said of the node by expressions, until they are evaluated.
    pub(super) awaited: BTreeSet<String>,
    /// The secret that was asked for since this was taken last.
    touched: RefCell<Option<Secure>>,
    /// Whether no message shows the text of an expression, which may be a password.
    is_source_hidden: Cell<bool>,
    budget: Rc<Budget>,
}

impl Scope {
    pub(super) fn new(node: &str, budget: &Rc<Budget>) -> Self {
        Self {
            node: node.to_owned(),
            parameters: BTreeMap::new(),
            variables: Rc::default(),
            data: Rc::default(),
            awaited: BTreeSet::new(),
            touched: RefCell::default(),
            is_source_hidden: Cell::default(),
            budget: Rc::clone(budget),
        }
    }

    /// The scope of a composite: what all see, and parameters of its own.
    pub(super) fn within(&self) -> Self {
        let (variables, data) = (Rc::clone(&self.variables), Rc::clone(&self.data));
        Self { variables, data, ..Self::new(&self.node, &self.budget) }
    }

    pub(super) fn charge(&self, bytes: usize) -> Result<(), String> {
        self.budget.charge(bytes)
    }

    /// Whether a secure parameter was asked for, so that no value may be told.
    pub(super) fn is_secret(&self) -> bool {
        self.touched.borrow().is_some()
    }

    /// The secret that was asked for since the last call, if there was one.
    pub(super) fn take_touched(&self) -> Option<Secure> {
        self.touched.take()
    }

    fn touch(&self, bound: &Bound) {
        let Some(secure) = &bound.secure else { return };
        match &mut *self.touched.borrow_mut() {
            Some(touched) => touched.is_account &= secure.is_account,
            touched => *touched = Some(secure.clone()),
        }
    }

    /// Tells what an expression made of what was asked for: a part of a secure object, or a text of it,
    /// may be its password.
    pub(super) fn make(&self, value: &Value) {
        if !matches!(value, Value::Object(_) | Value::Array(_))
            && let Some(touched) = &mut *self.touched.borrow_mut()
        {
            touched.is_account = false;
        }
    }

    /// Whether no message shows the text of an expression.
    pub(super) fn is_source_hidden(&self) -> bool {
        self.is_source_hidden.get()
    }

    /// Hides the text of expressions, or shows it; answers what was so before.
    pub(super) fn hide_source(&self, hides: bool) -> bool {
        self.is_source_hidden.replace(hides)
    }

    /// The value of `parameters('name')`, `variables('name')` or `node('name')`.
    pub(super) fn read(&self, function: &str, name: &str) -> Result<Value, String> {
        let (what, known) = match function {
            "parameters" => ("parameter", &self.parameters),
            "variables" => ("variable", &*self.variables),
            _ => ("value of the node", &*self.data),
        };
        if let Some(bound) = known.get(name) {
            self.touch(bound);
            return Ok(bound.value.clone());
        }
        if self.is_secret() {
            return Err(format!("there is no {what} of that name"));
        }
        if function == "node" && self.awaited.contains(name) {
            return Err(not_yet(name));
        }
        let meant = meant(name, known.keys().map(String::as_str));
        Err(format!("there is no {what} `{name}`{meant}"))
    }

    /// The value of `node()`: everything that is said of the node.
    pub(super) fn read_node(&self) -> Result<Value, String> {
        if let Some(name) = self.awaited.first() {
            return Err(not_yet(name));
        }
        self.data.values().for_each(|bound| self.touch(bound));
        Ok(self.data.iter().map(|(name, bound)| (name.clone(), bound.value.clone())).collect())
    }
}

fn not_yet(name: &str) -> String {
    format!(
        "the value `{name}` of the node is not known yet: it is an expression, which is evaluated \
         after the parameters and after those in front of it"
    )
}

/// About what a value takes in memory, in bytes.
///
/// Fails if lists and objects lie too deep in each other.
pub(super) fn weigh(value: &Value) -> Result<usize, String> {
    fn within(value: &Value, depth: usize) -> Result<usize, String> {
        let mut bytes = size_of::<Value>();
        if matches!(value, Value::Array(_) | Value::Object(_)) && depth == DEPTH_MAX {
            return Err(format!("lists and objects lie more than {DEPTH_MAX} deep"));
        }
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(values) => {
                for value in values {
                    bytes += within(value, depth + 1)?;
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    bytes += size_of::<String>() + key.len() + within(value, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(bytes)
    }
    within(value, 0)
}

/// Whether nothing in a part of the source is an expression.
pub(super) fn is_plain(tree: &Tree) -> bool {
    match &tree.kind {
        Kind::Scalar(Value::String(text)) => !is_expression(text),
        Kind::Scalar(_) => true,
        Kind::List(items) => items.iter().all(is_plain),
        Kind::Map(entries) => entries.iter().all(|entry| is_plain(&entry.value)),
    }
}
