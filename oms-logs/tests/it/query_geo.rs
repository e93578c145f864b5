//! Geospatial functions in queries.

use crate::query::check;
use serde_json::json;

const SQUARE: &str = "let square = dynamic({'type': 'Polygon', 'coordinates': [[[0,0],[10,0],[10,10],[0,10],[0,0]]]});
     let line = dynamic({'type': 'LineString', 'coordinates': [[-5,5],[15,5]]});
     ";

async fn with_square(text: &str, columns: &str, rows: serde_json::Value) {
    check(&format!("{SQUARE}{text}"), columns, rows).await;
}

#[tokio::test]
async fn points_have_distances_and_directions() {
    check(
        "print d = round(geo_distance_2points(0, 0, 0, 1)), s = round(geo_distance_2points(0, 0, 0, 1, true)),
           a = round(degrees(geo_azimuth(0, 0, 5, 0))), g = round(degrees(geo_angle(0, 1, 0, 0, 1, 0))),
           i = geo_point_in_circle(0, 0, 0, 0.5, 60000), o = geo_point_in_circle(0, 0, 0, 1, 60000),
           n = geo_distance_2points(200, 0, 0, 0), m = geo_azimuth(1, 1, 1, 1)",
        "d:real s:real a:real g:real i:bool o:bool n:real m:real",
        json!([[111_195.0, 110_574.0, 90.0, 90.0, true, false, null, null]]),
    )
    .await;
}

#[tokio::test]
async fn places_are_in_cells_of_grids() {
    check(
        "print g = geo_point_to_geohash(-80.195829, 25.802215, 8), s = geo_point_to_s2cell(10.1234, 53, 8),
           h = geo_point_to_h3cell(-73.956683, 40.807907, 5), none = geo_point_to_geohash(0, 100),
           p = geo_h3cell_parent('862a1072fffffff'), l = geo_h3cell_level('862a1072fffffff'),
           c = array_length(geo_h3cell_children('862a1072fffffff')), n = array_length(geo_geohash_neighbors('sunny')),
           r = array_length(geo_h3cell_rings('862a1072fffffff', 2)[2])",
        "g:string s:string h:string none:string p:string l:int c:long n:long r:long",
        json!([["dhwfz15h", "47b1d", "852a100bfffffff", "", "852a1073fffffff", 6, 7, 8, 12]]),
    )
    .await;
    check(
        "print geo_geohash_to_central_point('e'), isnull(geo_geohash_to_polygon('a')), isnull(geo_s2cell_to_polygon('a')),
           isnull(geo_h3cell_neighbors('abc')), array_length(geo_s2cell_neighbors('47b1d'))",
        "print_0:dynamic print_1:bool print_2:bool print_3:bool print_4:long",
        json!([[{"type": "Point", "coordinates": [-22.5, 22.5]}, true, true, true, 8]]),
    )
    .await;
}

#[tokio::test]
async fn rings_are_applied_to_in_their_place() {
    check(
        "print r = geo_h3cell_rings('861f8894fffffff', 1) | mv-apply r on (summarize cells = array_length(make_list(r)))",
        "cells:long",
        json!([[7]]),
    )
    .await;
}

#[tokio::test]
async fn polygons_hold_places() {
    with_square(
        "datatable(x:real, y:real)[5, 5, 5, 11, 200, 5]
         | project i = geo_point_in_polygon(x, y, square), d = round(geo_distance_point_to_polygon(x, y, square) / 1000)",
        "i:bool d:real",
        json!([[true, 0.0], [false, 107.0], [null, null]]),
    )
    .await;
    with_square(
        "print a = round(geo_polygon_area(square) / 1e9), p = round(geo_polygon_perimeter(square) / 1000),
           l = round(geo_line_length(line) / 1000), d = round(geo_distance_point_to_line(0, 6, line) / 1000),
           c = geo_polygon_centroid(square).type, f = round(geo_line_locate_point(line, 5, 0), 6)",
        "a:real p:real l:real d:real c:dynamic f:real",
        json!([[1233.0, 4431.0, 2215.0, 105.0, "Point", 0.5]]),
    )
    .await;
}

#[tokio::test]
async fn shapes_meet() {
    with_square(
        "let far = dynamic({'type': 'Polygon', 'coordinates': [[[20,0],[30,0],[30,10],[20,0]]]});
         let corner = dynamic({'type': 'Polygon', 'coordinates': [[[10,10],[12,10],[12,12],[10,10]]]});
         print geo_intersects_line_with_polygon(line, square), geo_intersects_2polygons(square, far),
           geo_intersection_line_with_polygon(line, square).type, geo_intersection_2polygons(square, far),
           geo_intersection_2polygons(square, corner).type, geo_intersection_2lines(line, line).type,
           geo_union_polygons_array(pack_array(square, far)).type, geo_union_lines_array(pack_array(line, line)).type",
        "print_0:bool print_1:bool type:dynamic print_3:dynamic type1:dynamic type2:dynamic type3:dynamic type4:dynamic",
        json!([[
            true,
            false,
            "LineString",
            {"type": "GeometryCollection", "geometries": []},
            "Point",
            "LineString",
            "MultiPolygon",
            "LineString"
        ]]),
    )
    .await;
}

#[tokio::test]
async fn shapes_become_others() {
    with_square(
        "print b = array_length(geo_point_buffer(0, 0, 20000).coordinates[0]), r = geo_polygon_buffer(square, 1000).type,
           s = array_length(geo_line_simplify(dynamic({'type': 'LineString', 'coordinates': [[0,0],[0,1],[0,2]]})).coordinates),
           d = array_length(geo_line_densify(dynamic({'type': 'LineString', 'coordinates': [[50,50],[51,51]]})).coordinates),
           c = array_length(geo_polygon_to_s2cells(square, 5)) > 10, h = array_length(geo_polygon_to_h3cells(square, 2)) > 5,
           l = array_length(geo_line_to_s2cells(line, 5)) > 5, w = geo_from_wkt('POINT (1 2)')",
        "b:long r:dynamic s:long d:long c:bool h:bool l:bool w:dynamic",
        json!([[101, "Polygon", 2, 9, true, true, true, {"type": "Point", "coordinates": [1.0, 2.0]}]]),
    )
    .await;
}

#[tokio::test]
async fn what_is_not_valid_makes_null() {
    with_square(
        "let crossed = dynamic({'type': 'Polygon', 'coordinates': [[[0,0],[9,9],[9,0],[0,9],[0,0]]]});
         let dot = dynamic({'type': 'LineString', 'coordinates': [[1,1]]});
         print isnull(geo_polygon_area(crossed)), isnull(geo_point_in_polygon(1, 1, crossed)), isnull(geo_line_length(dot)),
           isnull(geo_point_buffer(0, 0, -1)), isnull(geo_line_buffer(line, 10, 0)), isnull(geo_polygon_densify(square, 0)),
           isnull(geo_polygon_to_s2cells(square, 30)), isnull(geo_from_wkt('LINE')), isnull(geo_line_length(dynamic(1))),
           isnull(geo_union_polygons_array(pack_array(square, crossed))), isnull(geo_line_interpolate_point(line, 2.0))",
        "print_0:bool print_1:bool print_2:bool print_3:bool print_4:bool print_5:bool print_6:bool print_7:bool print_8:bool print_9:bool print_10:bool",
        json!([[true, true, true, true, true, true, true, true, true, true, true]]),
    )
    .await;
}

#[tokio::test]
async fn places_look_up_shapes() {
    const TABLES: &str = "let areas = datatable(area:string, shape:dynamic)[
           'square', dynamic({'type': 'Polygon', 'coordinates': [[[0,0],[10,0],[10,10],[0,10],[0,0]]]}),
           'none', dynamic(null)];
         let roads = datatable(road:string, way:dynamic)['equator', dynamic({'type': 'LineString', 'coordinates': [[0,0],[10,0]]})];
         let places = datatable(name:string, x:real, y:real)['in', 5, 5, 'out', 5, 10.5, 'far', 100, 0];
         ";
    check(
        &format!(
            "{TABLES} places | evaluate geo_polygon_lookup(areas, shape, x, y) | project-away x, y"
        ),
        "name:string area:string",
        json!([["in", "square"]]),
    )
    .await;
    check(
        &format!("{TABLES} places | evaluate geo_polygon_lookup(areas, shape, x, y, radius = 60000, return_unmatched = true, return_lookup_key = true)
             | project name, area, kind = shape.type | sort by name asc"),
        "name:string area:string kind:dynamic",
        json!([["far", "", null], ["in", "square", "Polygon"], ["out", "square", "Polygon"]]),
    )
    .await;
    check(
        &format!("{TABLES} places | evaluate geo_line_lookup(roads, way, x, y, 600000) | project name, road"),
        "name:string road:string",
        json!([["in", "equator"]]),
    )
    .await;
}
