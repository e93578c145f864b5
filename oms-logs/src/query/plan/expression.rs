//! Bound expressions as DataFusion expressions.

use crate::query::bound::{Arithmetic, Comparison, Expr, ExprKind, OrderKey};
use crate::query::function::{self, Args, KernelFn};
use crate::query::time;
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column as DfColumn, DFSchema, Result};
use datafusion::functions::math::expr_fn::{isnan, nanvl};
use datafusion::functions::string::expr_fn::starts_with;
use datafusion::logical_expr::expr::{Case, InList};
use datafusion::logical_expr::{Expr as DfExpr, Operator, binary_expr, cast, lit, try_cast};
use datafusion::scalar::ScalarValue;
use std::collections::HashMap;
use std::sync::Arc;

/// A column by its exact name.
pub(super) fn column(name: &str) -> DfExpr {
    DfExpr::Column(DfColumn::new_unqualified(name))
}

/// Expressions over the rows of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowering<'s> {
    pub(super) schema: &'s DFSchema,
    /// What columns are called in the plan, if not as in the relation.
    pub(super) names: &'s HashMap<String, String>,
}

impl Lowering<'_> {
    fn column(&self, name: &str) -> DfExpr {
        column(self.names.get(name).map_or(name, String::as_str))
    }

    /// The Arrow type of a column, and whether it can be null.
    pub(super) fn data_type(&self, name: &str) -> Result<(&DataType, bool)> {
        let name = self.names.get(name).map_or(name, String::as_str);
        let field = self.schema.field_with_unqualified_name(name)?;
        Ok((field.data_type(), field.is_nullable()))
    }

    /// A column as it is; anything else as [`Self::computed`].
    pub(super) fn stored(&self, expr: &Expr) -> Result<DfExpr> {
        match &expr.kind {
            ExprKind::Column(name) => Ok(self.column(name)),
            _ => self.computed(expr),
        }
    }

    /// In a form whose order and equality are the language's, among values of one column.
    pub(super) fn orderable(&self, expr: &Expr) -> Result<DfExpr> {
        match &expr.kind {
            ExprKind::Column(name) if expr.kql_type == KqlType::String => {
                let (data_type, nullable) = self.data_type(name)?;
                Ok(if nullable || matches!(data_type, DataType::Dictionary(..)) {
                    function::never_null(KqlType::String).call(vec![self.column(name)])
                } else {
                    self.column(name)
                })
            }
            _ if expr.kql_type == KqlType::Dynamic => self.computed(expr),
            _ => self.stored(expr),
        }
    }

    /// In a form by whose order rows sort.
    pub(super) fn sortable(&self, expr: &Expr) -> Result<DfExpr> {
        if expr.kql_type != KqlType::Decimal {
            return self.orderable(expr);
        }
        // Guids have nulls and are text, as these keys.
        self.kernel("decimal_order", function::decimal_order_key, &[expr], KqlType::Guid)
    }

    /// In a form by whose order rows sort, as the key says: a number that is not a number stands
    /// next to null, at whichever end that is.
    pub(super) fn sort_key(&self, key: &OrderKey) -> Result<DfExpr> {
        let sortable = self.sortable(&key.expr)?;
        if key.expr.kql_type != KqlType::Real {
            return Ok(sortable);
        }
        // In Arrow's order one is the least of all numbers, the other the greatest.
        let nan = if key.nulls_first == key.ascending { -f64::NAN } else { f64::NAN };
        Ok(nanvl(sortable, lit(nan)))
    }

    /// In the type's computed form.
    pub(super) fn computed(&self, expr: &Expr) -> Result<DfExpr> {
        let parts = |parts: &[Expr]| {
            parts.iter().map(|part| self.computed(part)).collect::<Result<Vec<_>>>()
        };
        match &expr.kind {
            ExprKind::Constant(value) => Ok(lit(value.clone())),
            ExprKind::Column(name) => self.computed_column(name, expr),
            ExprKind::And(all) => Ok(balanced(parts(all)?, Operator::And)),
            ExprKind::Or(all) => Ok(balanced(parts(all)?, Operator::Or)),
            ExprKind::Not(inner) => Ok(DfExpr::Not(Box::new(self.computed(inner)?))),
            ExprKind::Compare(comparison, left, right) => self.compare(*comparison, left, right),
            ExprKind::In { value, items } => {
                let found = self.is_in(value, items)?;
                Ok(DfExpr::IsTrue(Box::new(found)))
            }
            ExprKind::Hold(inner) => {
                Ok(function::hold(expr.kql_type).call(vec![self.computed(inner)?]))
            }
            ExprKind::IsNull(inner) => Ok(self.stored(inner)?.is_null()),
            ExprKind::Case { branches, otherwise } => {
                let branches = branches
                    .iter()
                    .map(|(when, then)| {
                        Ok((Box::new(self.computed(when)?), Box::new(self.computed(then)?)))
                    })
                    .collect::<Result<Vec<_>>>()?;
                let otherwise = Some(Box::new(self.computed(otherwise)?));
                Ok(DfExpr::Case(Case::new(None, branches, otherwise)))
            }
            ExprKind::Arithmetic(arithmetic, left, right) => {
                let operator = match arithmetic {
                    Arithmetic::Add => Operator::Plus,
                    Arithmetic::Subtract => Operator::Minus,
                    Arithmetic::Multiply => Operator::Multiply,
                    Arithmetic::Divide => Operator::Divide,
                };
                Ok(binary_expr(self.computed(left)?, operator, self.computed(right)?))
            }
            ExprKind::Cast(inner) => {
                let wanted = expr.kql_type.computed_type();
                let inner_expr = self.computed(inner)?;
                // A real that is no whole number of ticks or does not fit has no counterpart.
                Ok(if inner.kql_type == KqlType::Real {
                    try_cast(inner_expr, wanted)
                } else {
                    cast(inner_expr, wanted)
                })
            }
            ExprKind::Random { seed, below } => {
                let below = below.iter().map(|below| self.computed(below));
                let arguments = below.collect::<Result<Vec<_>>>()?;
                let function = function::random(*seed, expr.kql_type, arguments.len());
                Ok(function.call(arguments))
            }
            ExprKind::Call { name, kernel, arguments } => {
                self.kernel(name, *kernel, &arguments.iter().collect::<Vec<_>>(), expr.kql_type)
            }
        }
    }

    /// Kernels read stored columns as they are.
    fn kernel(
        &self,
        name: &'static str,
        kernel: KernelFn,
        arguments: &[&Expr],
        returns: KqlType,
    ) -> Result<DfExpr> {
        let types = arguments.iter().map(|argument| argument.kql_type).collect();
        let lowered =
            arguments.iter().map(|argument| self.stored(argument)).collect::<Result<Vec<_>>>()?;
        Ok(function::udf(name, kernel, types, returns).call(lowered))
    }

    fn computed_column(&self, name: &str, expr: &Expr) -> Result<DfExpr> {
        let (data_type, nullable) = self.data_type(name)?;
        let plain = self.column(name);
        match expr.kql_type {
            KqlType::DateTime if matches!(data_type, DataType::Timestamp(..)) => {
                self.kernel("ticks", ticks, &[expr], KqlType::DateTime)
            }
            KqlType::Dynamic if *data_type != DataType::BinaryView => {
                self.kernel("dynamic_of_text", dynamic, &[expr], KqlType::Dynamic)
            }
            KqlType::String | KqlType::Guid | KqlType::Decimal => {
                if expr.kql_type == KqlType::String && nullable {
                    return Ok(function::never_null(KqlType::String).call(vec![plain]));
                }
                Ok(if *data_type == DataType::Utf8View {
                    plain
                } else {
                    cast(plain, DataType::Utf8View)
                })
            }
            _ => Ok(plain),
        }
    }

    /// Whether a value of the expression can be null.
    fn nullable(&self, expr: &Expr) -> Result<bool> {
        if expr.kql_type == KqlType::String {
            return Ok(false);
        }
        Ok(match &expr.kind {
            ExprKind::Constant(value) => value.is_null(),
            ExprKind::Column(name) => self.data_type(name)?.1,
            _ => true,
        })
    }

    /// The operands in forms that can be compared with each other.
    fn operands(&self, left: &Expr, right: &Expr) -> Result<(DfExpr, DfExpr)> {
        if left.kql_type == KqlType::String {
            return Ok((self.orderable(left)?, self.orderable(right)?));
        }
        if let (ExprKind::Column(left), ExprKind::Column(right)) = (&left.kind, &right.kind)
            && self.data_type(left)?.0 == self.data_type(right)?.0
        {
            return Ok((self.column(left), self.column(right)));
        }
        Ok((self.computed(left)?, self.computed(right)?))
    }

    fn compare(&self, comparison: Comparison, left: &Expr, right: &Expr) -> Result<DfExpr> {
        if let Some(stored) = self.compare_stored(comparison, left, right)? {
            return Ok(stored);
        }
        let both_nullable = self.nullable(left)? && self.nullable(right)?;
        let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        // Two nulls, and numbers that are not numbers, need more than DataFusion's operators.
        if matches!(left.kql_type, KqlType::Real | KqlType::Decimal) || (equality && both_nullable)
        {
            let (name, kernel) = function::operator::comparison_kernel(comparison);
            return self.kernel(name, kernel, &[left, right], KqlType::Bool);
        }
        let (left, right) = self.operands(left, right)?;
        let operator = match comparison {
            Comparison::Equal => Operator::IsNotDistinctFrom,
            Comparison::NotEqual => Operator::IsDistinctFrom,
            other => operator_of(other),
        };
        Ok(binary_expr(left, operator, right))
    }

    /// A comparison of a stored timestamp and a constant, in the stored unit.
    fn compare_stored(
        &self,
        comparison: Comparison,
        left: &Expr,
        right: &Expr,
    ) -> Result<Option<DfExpr>> {
        if left.kql_type != KqlType::DateTime {
            return Ok(None);
        }
        let (name, ticks, comparison) = match (&left.kind, &right.kind) {
            (ExprKind::Column(name), ExprKind::Constant(ScalarValue::Int64(Some(ticks)))) => {
                (name, *ticks, comparison)
            }
            (ExprKind::Constant(ScalarValue::Int64(Some(ticks))), ExprKind::Column(name)) => {
                (name, *ticks, turned(comparison))
            }
            _ => return Ok(None),
        };
        let (DataType::Timestamp(_, zone), nullable) = self.data_type(name)? else {
            return Ok(None);
        };
        let (micros, rest) = time::micros_of_ticks(ticks);
        let bound = lit(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()));
        let operator = match (comparison, rest) {
            // No whole microsecond equals it.
            (Comparison::Equal, 1..) => return Ok(Some(lit(false))),
            (Comparison::NotEqual, 1..) => return Ok(Some(lit(true))),
            (Comparison::Less, 1..) => Operator::LtEq,
            (Comparison::GreaterOrEqual, 1..) => Operator::Gt,
            (Comparison::Equal, _) if nullable => Operator::IsNotDistinctFrom,
            (Comparison::NotEqual, _) if nullable => Operator::IsDistinctFrom,
            (other, _) => operator_of(other),
        };
        Ok(Some(binary_expr(self.column(name), operator, bound)))
    }

    /// Null if the value is null and not in the list.
    fn is_in(&self, value: &Expr, items: &[ScalarValue]) -> Result<DfExpr> {
        let zone = match &value.kind {
            ExprKind::Column(name) if value.kql_type == KqlType::DateTime => {
                match self.data_type(name)?.0 {
                    DataType::Timestamp(_, zone) => Some(zone.clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        let (lowered, items): (DfExpr, Vec<DfExpr>) = match zone {
            Some(zone) => {
                let items = items.iter().filter_map(|item| match item {
                    ScalarValue::Int64(Some(ticks)) => match time::micros_of_ticks(*ticks) {
                        (micros, 0) => {
                            Some(lit(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone())))
                        }
                        _ => None,
                    },
                    _ => None,
                });
                (self.stored(value)?, items.collect())
            }
            None => {
                let items = items.iter().map(|item| lit(item.clone())).collect();
                let lowered = if value.kql_type == KqlType::String {
                    self.orderable(value)?
                } else {
                    self.computed(value)?
                };
                (lowered, items)
            }
        };
        if items.is_empty() {
            return Ok(lit(false));
        }
        Ok(DfExpr::InList(InList::new(Box::new(lowered), items, false)))
    }

    /// A condition for which null and false are the same. It uses stored columns as they are where
    /// it can, so that it can prune.
    pub(super) fn filter(&self, expr: &Expr) -> Result<DfExpr> {
        let parts =
            |parts: &[Expr]| parts.iter().map(|part| self.filter(part)).collect::<Result<Vec<_>>>();
        match &expr.kind {
            ExprKind::And(all) => Ok(balanced(parts(all)?, Operator::And)),
            ExprKind::Or(all) => Ok(balanced(parts(all)?, Operator::Or)),
            ExprKind::Compare(comparison, left, right) => {
                self.filter_compare(*comparison, left, right)
            }
            ExprKind::In { value, items } => {
                let empty = ScalarValue::Utf8View(Some(String::new()));
                match &value.kind {
                    // Null text is the empty string, which is not in the list.
                    ExprKind::Column(name)
                        if value.kql_type == KqlType::String
                            && !items.is_empty()
                            && !items.contains(&empty) =>
                    {
                        let items = items.iter().map(|item| lit(item.clone())).collect();
                        Ok(DfExpr::InList(InList::new(Box::new(self.column(name)), items, false)))
                    }
                    _ => self.is_in(value, items),
                }
            }
            ExprKind::Call { name: "startswith_cs", arguments, .. } => match arguments.as_slice() {
                [Expr { kind: ExprKind::Column(name), .. }, prefix]
                    if prefix.as_text().is_some_and(|prefix| !prefix.is_empty()) =>
                {
                    Ok(starts_with(self.column(name), self.computed(prefix)?))
                }
                _ => self.computed(expr),
            },
            _ => self.computed(expr),
        }
    }

    fn filter_compare(&self, comparison: Comparison, left: &Expr, right: &Expr) -> Result<DfExpr> {
        let (left, right, comparison) = match (&left.kind, &right.kind) {
            (ExprKind::Constant(_), ExprKind::Column(_)) => (right, left, turned(comparison)),
            _ => (left, right, comparison),
        };
        let (ExprKind::Column(name), ExprKind::Constant(constant)) = (&left.kind, &right.kind)
        else {
            return self.compare(comparison, left, right);
        };
        let operator = operator_of(comparison);
        match left.kql_type {
            _ if constant.is_null() => self.compare(comparison, left, right),
            KqlType::DateTime => match self.compare_stored(comparison, left, right)? {
                Some(DfExpr::BinaryExpr(binary)) if binary.op == Operator::IsNotDistinctFrom => {
                    Ok(binary_expr(*binary.left, Operator::Eq, *binary.right))
                }
                Some(stored) => Ok(stored),
                None => self.compare(comparison, left, right),
            },
            // Null text is the empty string, which equals nothing else.
            KqlType::String
                if comparison == Comparison::Equal && right.as_text() != Some("")
                    || comparison == Comparison::NotEqual && right.as_text() == Some("") =>
            {
                Ok(binary_expr(self.column(name), operator, lit(constant.clone())))
            }
            KqlType::Real if comparison != Comparison::NotEqual => {
                let found = binary_expr(self.column(name), operator, lit(constant.clone()));
                // In Arrow's order a number that is not a number is greater than all others.
                Ok(match comparison {
                    Comparison::Greater | Comparison::GreaterOrEqual => {
                        found.and(DfExpr::Not(Box::new(isnan(self.column(name)))))
                    }
                    _ => found,
                })
            }
            KqlType::Bool | KqlType::Int | KqlType::Long | KqlType::TimeSpan
                if comparison != Comparison::NotEqual =>
            {
                Ok(binary_expr(self.column(name), operator, lit(constant.clone())))
            }
            _ => self.compare(comparison, left, right),
        }
    }
}

fn ticks(args: &Args<'_>) -> Result<ArrayRef> {
    let value = args.long(0)?;
    Ok(args.make_long(|row| value.get(row)))
}

fn dynamic(args: &Args<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(args.dynamic(0)?.array().clone()))
}

const fn operator_of(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
    }
}

/// The comparison with its operands exchanged.
const fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

/// Joins conditions into a tree of least depth, since later stages recurse.
fn balanced(mut parts: Vec<DfExpr>, operator: Operator) -> DfExpr {
    match parts.len() {
        0 => lit(operator == Operator::And),
        1 => parts.remove(0),
        count => {
            let rest = parts.split_off(count / 2);
            binary_expr(balanced(parts, operator), operator, balanced(rest, operator))
        }
    }
}
