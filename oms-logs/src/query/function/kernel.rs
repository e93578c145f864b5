//! Kernels as DataFusion functions.

use super::Args;
use super::budget::{self, Budget};
use crate::query::bound::{Expr, ExprKind};
use crate::query::dynamic::to_json;
use crate::query::syntax::Span;
use crate::query::types::KqlType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr as DfExpr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Makes a column of [`Args`]' rows. It must not depend on anything but the arguments.
pub(crate) type KernelFn = fn(&Args<'_>) -> Result<ArrayRef>;

/// What [`never_null`] is called.
const NEVER_NULL: &str = "never_null";

/// A call of a kernel.
pub(crate) const fn call(
    name: &'static str,
    kernel: KernelFn,
    arguments: Vec<Expr>,
    kql_type: KqlType,
    span: Span,
) -> Expr {
    Expr::new(ExprKind::Call { name, kernel, arguments }, kql_type, span)
}

#[derive(Debug)]
struct KernelUdf {
    name: &'static str,
    kernel: KernelFn,
    types: Vec<KqlType>,
    returns: DataType,
    /// Null text that it makes becomes empty, since strings are never null.
    never_null: bool,
    signature: Signature,
}

// A kernel is known by its name and its types: two functions never share both.
impl PartialEq for KernelUdf {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.types == other.types && self.returns == other.returns
    }
}

impl Eq for KernelUdf {}

impl Hash for KernelUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, &self.types, &self.returns).hash(state);
    }
}

/// The kernel as a DataFusion function for arguments of the types.
pub(crate) fn udf(
    name: &'static str,
    kernel: KernelFn,
    types: Vec<KqlType>,
    returns: KqlType,
) -> ScalarUDF {
    ScalarUDF::from(KernelUdf {
        name,
        kernel,
        signature: if types.is_empty() {
            Signature::nullary(Volatility::Immutable)
        } else {
            Signature::variadic_any(Volatility::Immutable)
        },
        types,
        returns: returns.computed_type(),
        never_null: returns == KqlType::String,
    })
}

/// A dynamic value as JSON text, for answers.
pub(crate) fn json_of_dynamic() -> ScalarUDF {
    ScalarUDF::from(KernelUdf {
        name: "json_of_dynamic",
        kernel: |args| Ok(Arc::new(to_json(args.dynamic(0)?.array()))),
        signature: Signature::any(1, Volatility::Immutable),
        types: vec![KqlType::Dynamic],
        returns: DataType::Utf8View,
        never_null: false,
    })
}

/// The value itself, in its computed form. DataFusion takes it for a function that can answer
/// differently each time, and so neither moves nor repeats it.
pub(crate) fn hold(kql_type: KqlType) -> ScalarUDF {
    ScalarUDF::from(KernelUdf {
        name: "hold",
        kernel: |args| args.first(),
        signature: Signature::any(1, Volatility::Volatile),
        types: vec![kql_type],
        returns: kql_type.computed_type(),
        never_null: kql_type == KqlType::String,
    })
}

/// The text as a column without nulls.
fn without_nulls(array: &ArrayRef) -> Result<ArrayRef> {
    let array = cast(array, &DataType::Utf8View)?;
    if array.null_count() == 0 {
        return Ok(array);
    }
    let text = array.as_string_view();
    Ok(Arc::new(
        text.iter().map(|text| Some(text.unwrap_or_default())).collect::<StringViewArray>(),
    ))
}

/// The text itself, empty where it is null.
pub(crate) fn never_null(kql_type: KqlType) -> ScalarUDF {
    udf(NEVER_NULL, |args| args.first(), vec![kql_type], KqlType::String)
}

/// What an expression makes [never null](never_null), if that is what it does.
pub(crate) fn never_null_argument(expr: &DfExpr) -> Option<&DfExpr> {
    let DfExpr::ScalarFunction(call) = expr else { return None };
    call.args.first().filter(|_| is_never_null(&call.func))
}

/// What a physical expression makes [never null](never_null), if that is what it does.
pub(crate) fn never_null_of(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    call.args().first().filter(|_| is_never_null(call.fun()))
}

fn is_never_null(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<KernelUdf>().is_some_and(|kernel| kernel.name == NEVER_NULL)
}

impl ScalarUDFImpl for KernelUdf {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name, self.returns.clone(), !self.never_null)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let single = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if single { 1 } else { args.number_rows };
        let given = Args { function: self.name, values: &args.args, types: &self.types, rows };
        let array = budget::within(Budget::default(), self.name, || (self.kernel)(&given))?;
        let array = if self.never_null { without_nulls(&array)? } else { array };
        Ok(if single {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}
