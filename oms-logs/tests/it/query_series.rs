//! Functions of series in queries.

use crate::query::check;
use serde_json::json;

#[tokio::test]
async fn elements_side_by_side() {
    check(
        "print a = dynamic([1, 2.5, null]), b = dynamic([4, 0, 2, 7])
         | project series_add(a, b), series_multiply(b, 2), series_divide(b, dynamic([8, 0])), series_pow(b, 2),
             series_greater(a, b), series_equals(b, 4), series_abs(dynamic([-1, 1.5])), series_ceiling(a), isnull(series_abs(1))",
        "Column1:dynamic Column2:dynamic Column3:dynamic Column4:dynamic Column5:dynamic Column6:dynamic Column7:dynamic Column8:dynamic Column9:bool",
        json!([[
            [5, 2.5, null, null],
            [8, 0, 4, 14],
            [0.5, "NaN", null, null],
            [16.0, 0.0, 4.0, 49.0],
            [false, true, null, null],
            [true, false, false, false],
            [1, 1.5],
            [1.0, 3.0, null],
            true
        ]]),
    )
    .await;
}

#[tokio::test]
async fn one_value_of_a_series() {
    check(
        "print a = dynamic([3, 4, null]), b = dynamic([1, 2, 3])
         | project series_sum(a), series_product(b), series_magnitude(a), series_dot_product(a, b),
             round(series_cosine_similarity(a, dynamic([3, 4])), 6), round(series_pearson_correlation(b, dynamic([2, 4, 6])), 6)",
        "Column1:real Column2:real Column3:real Column4:real Column5:real Column6:real",
        json!([[7.0, 6.0, 5.0, 11.0, 1.0, 1.0]]),
    )
    .await;
}

#[tokio::test]
async fn gaps_are_filled() {
    check(
        "print s = dynamic([null, 1, null, 4, null])
         | project series_fill_forward(s), series_fill_backward(s), series_fill_const(s, 0), series_fill_linear(s),
             series_fill_linear(s, long(null), false), series_fill_const(dynamic([-1, 2]), 9, -1)",
        "s:dynamic s1:dynamic s2:dynamic s3:dynamic s4:dynamic Column1:dynamic",
        json!([[
            [null, 1, 1, 4, 4],
            [1, 1, 4, 4, null],
            [0, 1, 0, 4, 0],
            [1, 1, 2, 4, 4],
            [null, 1, 2, 4, null],
            [9, 2]
        ]]),
    )
    .await;
}

#[tokio::test]
async fn filters_and_transforms() {
    check(
        "print s = dynamic([1, 2, 4, 8])
         | project series_fir(s, dynamic([1, -1])), series_fir(s, dynamic([1, 1]), true, true), series_iir(s, dynamic([1]), dynamic([1, -1]))",
        "s:dynamic s1:dynamic s2:dynamic",
        json!([[[1, 1, 2, 4], [1.5, 3.0, 6.0, 4.0], [1.0, 3.0, 7.0, 15.0]]]),
    )
    .await;
    check(
        "print x = dynamic([1, 0, 0, 0]) | extend (re, im) = series_fft(x) | project re, im, (back, rest) = series_ifft(re, im)",
        "re:dynamic im:dynamic back:dynamic rest:dynamic",
        json!([[[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]),
    )
    .await;
}

#[tokio::test]
async fn a_call_can_make_several_columns() {
    check(
        "print x = dynamic([2, 4, 9]) | project series_stats(x)",
        "series_stats_x_min:real series_stats_x_min_idx:long series_stats_x_max:real series_stats_x_max_idx:long series_stats_x_avg:real series_stats_x_stdev:real series_stats_x_variance:real",
        json!([[2.0, 0, 9.0, 2, 5.0, 13.0_f64.sqrt(), 13.0]]),
    )
    .await;
    check(
        "print x = dynamic([2, 4, 9]) | extend least = series_stats(x), (low, at) = series_stats(x) | project-away x",
        "least:real low:real at:long",
        json!([[2.0, 2.0, 0]]),
    )
    .await;
    check(
        "print x = dynamic([1, 3, 5, 7])
         | extend fit = series_fit_line_dynamic(x), two = series_fit_2lines_dynamic(x), all = series_stats_dynamic(x)
         | project (r, s) = series_fit_line(x), toreal(fit.slope), toreal(two.right.slope), toint(all.len), series_fit_poly(x)
         | project r, s, fit_slope, two_right_slope, all_len, c = round(toreal(series_fit_poly_x_coefficients[0]), 6)",
        "r:real s:real fit_slope:real two_right_slope:real all_len:int c:real",
        json!([[1.0, 2.0, 2.0, 2.0, 4, 2.0]]),
    )
    .await;
}

#[tokio::test]
async fn seasons_and_anomalies() {
    check(
        "print x = dynamic([5,6,7,6,5,1,0,5,6,7,6,5,1,0,5,6,14,6,5,1,0,5,6,7,6,5,1,0,5,6,7,6,5,1,0])
         | project (periods, scores) = series_periods_detect(x, 4.0, 20.0, 1), season = series_seasonal(x),
             (flags, how, base) = series_decompose_anomalies(x), next = series_decompose_forecast(x, 7)
         | project periods, array_slice(season, 0, 6), flags[16], array_sum(flags), toreal(how[16]) > 3, array_length(base), array_length(next)",
        "periods:dynamic Column1:dynamic flags_16:dynamic Column2:real Column3:bool Column4:long Column5:long",
        json!([[[7.0], [5.0, 6.0, 7.0, 6.0, 5.0, 1.0, 0.0], 1, 1.0, true, 35, 35]]),
    )
    .await;
    check(
        "print y = dynamic([1,2,3,4,1,2,3,4,1,2,3,4]) | project series_periods_validate(y, 4.0, 5.0)
         | project series_periods_validate_y_periods, toreal(series_periods_validate_y_scores[0]) > 0.8, series_periods_validate_y_scores[1]",
        "series_periods_validate_y_periods:dynamic Column1:bool series_periods_validate_y_scores_1:dynamic",
        json!([[[4.0, 5.0], true, 0.0]]),
    )
    .await;
}
