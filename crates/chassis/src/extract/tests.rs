//! The rows of the input table, by their numbers: each input and the answer it must get. And a
//! property: no bytes whatever make a reader panic.

use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::*;

/// What reading one member of a body gave: its value as text, or `type@loc`.
fn read_member<T: ToString>(
    body: &str,
    read: impl FnOnce(&Object<'_>, &mut Faults) -> Option<T>,
) -> String {
    let body = Body::test(Some("application/json"), body.as_bytes()).expect("is text");
    let mut faults = Faults::new();
    let value = body
        .object(&mut faults)
        .and_then(|object| read(&object, &mut faults));
    match faults.finish() {
        Ok(()) => value.expect("no value means a fault").to_string(),
        Err(error) => {
            assert!(value.is_none(), "a fault means no value");
            types(&error).join(" ")
        }
    }
}

fn types(error: &ApiError) -> Vec<&'static str> {
    error.faults().iter().map(Fault::kind).collect()
}

fn amount(literal: &str) -> String {
    read_member(&format!(r#"{{"amount":{literal}}}"#), |object, faults| {
        object.money("amount", faults)
    })
}

fn user_id(literal: &str) -> String {
    read_member(&format!(r#"{{"user_id":{literal}}}"#), |object, faults| {
        object.positive_integer("user_id", faults)
    })
}

fn description(literal: &str) -> String {
    let body = format!(r#"{{"description":{literal}}}"#);
    read_member(&body, |object, faults| {
        object.text("description", 4096, faults)
    })
}

/// The list of faults of an order read from this body, as rendered.
fn faults_of_order(content_type: Option<&str>, bytes: &[u8]) -> Value {
    let body = match Body::test(content_type, bytes) {
        Ok(body) => body,
        Err(error) => return json!(error.status().as_u16()),
    };
    let mut faults = Faults::new();
    if let Some(object) = body.object(&mut faults) {
        object.positive_integer("user_id", &mut faults);
        object.money("amount", &mut faults);
        object.text("description", 4096, &mut faults);
    }
    match faults.finish() {
        Ok(()) => json!([]),
        Err(error) => serde_json::to_value(error.faults()).expect("renders"),
    }
}

fn first_fault(content_type: Option<&str>, bytes: &[u8]) -> Value {
    faults_of_order(content_type, bytes)[0].clone()
}

const GOOD_ORDER: &str = r#"{"user_id":101,"amount":"150.00","description":"x"}"#;
const JSON: Option<&str> = Some("application/json");

#[test]
fn a1_to_a22_amounts() {
    let nines = "9".repeat(5_000);
    let zeros = format!("\"0.{}\"", "0".repeat(5_000));
    let thirty_zeros = format!("\"1{}\"", "0".repeat(30));
    let rows: &[(&str, &str, &str)] = &[
        ("a1", r#""-1.00""#, "greater_than"),
        ("a2", r#""0""#, "greater_than"),
        ("a2", r#""0.00""#, "greater_than"),
        ("a2", r#""-0.00""#, "greater_than"),
        ("a2", "0", "greater_than"),
        ("a2", "-0.0", "greater_than"),
        ("a3", r#""NaN""#, "finite_number"),
        ("a3", r#""sNaN""#, "finite_number"),
        ("a3", r#""Infinity""#, "finite_number"),
        ("a3", r#""-inf""#, "finite_number"),
        ("a4", "NaN", "json_invalid"),
        ("a4", "Infinity", "json_invalid"),
        ("a4", "-Infinity", "json_invalid"),
        ("a5", "1e400", "decimal_max_digits"),
        ("a5", "1E+99999999999999999999999", "decimal_max_digits"),
        ("a6", r#""1e400""#, "decimal_parsing"),
        ("a7", r#""1e2""#, "decimal_parsing"),
        ("a7", r#""1E+2""#, "decimal_parsing"),
        ("a8", r#""0.001""#, "decimal_max_places"),
        ("a9", r#""0.010""#, "0.01"),
        ("a9", r#""5.10000""#, "5.10"),
        ("a10", &thirty_zeros, "decimal_max_digits"),
        ("a10", &nines, "decimal_max_digits"),
        ("a11", r#""9999999999999999.99""#, "9999999999999999.99"),
        ("a11b", r#""99999999999999999""#, "decimal_whole_digits"),
        ("a12", r#""99999999999999999.99""#, "decimal_max_digits"),
        ("a13", "500", "500.00"),
        ("a13", "500.5", "500.50"),
        ("a13", "0.1", "0.10"),
        ("a13", r#""500""#, "500.00"),
        ("a13b", "1e2", "decimal_parsing"),
        ("a13b", "1e-400", "decimal_parsing"),
        ("a13b", "0e400", "decimal_parsing"),
        ("a14", "9999999999999999.99", "9999999999999999.99"),
        ("a15", r#"" 5.00""#, "decimal_parsing"),
        ("a15", r#""5.00 ""#, "decimal_parsing"),
        ("a15", r#""5.00\n""#, "decimal_parsing"),
        ("a16", "\"\u{661}\u{662}\"", "decimal_parsing"),
        ("a16", "\"\u{ff15}\"", "decimal_parsing"),
        ("a17", r#""1_000.00""#, "decimal_parsing"),
        ("a17", r#""5_""#, "decimal_parsing"),
        ("a18", r#""5,00""#, "decimal_parsing"),
        ("a18", r#""0x10""#, "decimal_parsing"),
        ("a18", r#""""#, "decimal_parsing"),
        ("a18", r#""5\u0000.00""#, "decimal_parsing"),
        ("a18", r#""-""#, "decimal_parsing"),
        ("a18", r#""1.2.3""#, "decimal_parsing"),
        ("a19", r#""+5.00""#, "decimal_parsing"),
        ("a19", r#"".5""#, "decimal_parsing"),
        ("a19", r#""5.""#, "decimal_parsing"),
        ("a20", r#""00005.00""#, "5.00"),
        ("a21", "null", "decimal_type"),
        ("a21", r#"["5.00"]"#, "decimal_type"),
        ("a21", r#"{"a":1}"#, "decimal_type"),
        ("a21", "true", "decimal_type"),
        ("a22", &zeros, "decimal_max_places"),
    ];
    for (row, literal, answer) in rows {
        let shown = literal.get(..40).unwrap_or(literal);
        assert_eq!(amount(literal), *answer, "{row}: {shown}");
    }
}

#[test]
fn limits_are_told_as_pydantic_tells_them() {
    let ctx = |amount: &str| {
        let body = format!(r#"{{"user_id":1,"amount":{amount},"description":""}}"#);
        first_fault(JSON, body.as_bytes())["ctx"].clone()
    };
    assert_eq!(ctx(r#""0""#), json!({"gt": 0}));
    assert_eq!(ctx(r#""0.001""#), json!({"decimal_places": 2}));
    assert_eq!(ctx(r#""99999999999999999""#), json!({"whole_digits": 16}));
    assert_eq!(ctx("1e400"), json!({"max_digits": 18}));
    assert_eq!(ctx("null"), Value::Null);
}

#[test]
fn a5_an_answer_can_be_read_even_where_the_input_hardly_could() {
    let fault = first_fault(JSON, br#"{"user_id":1,"amount":1e400,"description":""}"#);
    assert_eq!(fault["input"], "1e400");
    let whole = first_fault(JSON, br#"{"user_id":1,"x":1e400,"description":""}"#);
    assert_eq!(
        whole["input"],
        r#"{"user_id":1,"x":1e400,"description":""}"#
    );
    let exact = first_fault(JSON, br#"{"user_id":1,"amount":-1.50,"description":""}"#);
    assert_eq!(exact["input"].to_string(), "-1.5");
}

#[test]
fn u1_to_u9_user_ids() {
    let thirty_zeros = format!("1{}", "0".repeat(30));
    let rows: &[(&str, &str, &str)] = &[
        ("u1", "0", "greater_than"),
        ("u1", "-1", "greater_than"),
        ("u1", "-0", "greater_than"),
        ("u1", r#""-5""#, "greater_than"),
        ("u1", "-9223372036854775809", "greater_than"),
        ("u2", "9223372036854775807", "9223372036854775807"),
        ("u3", "9223372036854775808", "less_than_equal"),
        ("u3", &thirty_zeros, "less_than_equal"),
        ("u4", "1", "1"),
        ("u4", "1.0", "1"),
        ("u4", r#""1""#, "1"),
        ("u4", r#""1.0""#, "1"),
        ("u5", r#"" 1 ""#, "int_parsing"),
        ("u5", r#""+1""#, "int_parsing"),
        ("u5", r#""1_0""#, "int_parsing"),
        ("u5", "1e2", "int_parsing"),
        ("u6", "1.5", "int_from_float"),
        ("u7", "true", "int_type"),
        ("u8", r#""abc""#, "int_parsing"),
        ("u8", r#""1.5""#, "int_parsing"),
        ("u8", r#""1.""#, "int_parsing"),
        ("u8", r#""""#, "int_parsing"),
        ("u8", "\"\u{661}\"", "int_parsing"),
        ("u9", "null", "int_type"),
        ("u9", "[1]", "int_type"),
        ("u9", r#"{"a":1}"#, "int_type"),
    ];
    for (row, literal, answer) in rows {
        assert_eq!(user_id(literal), *answer, "{row}: {literal}");
    }
}

#[test]
fn d1_to_d7_descriptions() {
    let longest = format!("\"{}\"", "\u{445}".repeat(4_096));
    let too_long = format!("\"{}\"", "\u{445}".repeat(4_097));
    let rows: &[(&str, &str, &str)] = &[
        ("d1", r#""a\u0000b""#, "string_nul"),
        ("d2", r#""""#, ""),
        ("d2", "\"\u{202e}abc\"", "\u{202e}abc"),
        (
            "d2",
            "\"\u{1f468}\u{200d}\u{1f469}\"",
            "\u{1f468}\u{200d}\u{1f469}",
        ),
        ("d2", r#""<script>'; DROP""#, "<script>'; DROP"),
        ("d2", r#""a\r\nb""#, "a\r\nb"),
        ("d3", "null", "string_type"),
        ("d3", "5", "string_type"),
        ("d3", "[]", "string_type"),
        ("d4", r#""\ud800""#, "json_invalid"),
        ("d5", &longest, &longest[1..longest.len() - 1]),
        ("d5", &too_long, "string_too_long"),
        ("d7", "\"a\tb\"", "json_invalid"),
    ];
    for (row, literal, answer) in rows {
        assert_eq!(description(literal), *answer, "{row}");
    }
}

#[test]
fn b1_a_missing_field_shows_the_whole_object() {
    assert_eq!(
        first_fault(JSON, br#"{"user_id":1,"amount":5}"#),
        json!({
            "type": "missing", "loc": ["body", "description"], "msg": "Field required",
            "input": {"user_id": 1, "amount": 5},
        })
    );
}

#[test]
fn b2_an_empty_body_is_missing() {
    let missing = json!({
        "type": "missing", "loc": ["body"], "msg": "Field required", "input": null,
    });
    assert_eq!(first_fault(JSON, b""), missing);
    assert_eq!(first_fault(None, b""), missing);
}

#[test]
fn b3_broken_json_tells_where() {
    for body in ["abc", r#"{"user_id":1"#, r#"{"user_id":1} xx"#, "  "] {
        let fault = first_fault(JSON, body.as_bytes());
        assert_eq!(fault["type"], "json_invalid", "{body}");
        assert_eq!(fault["msg"], "JSON decode error");
        assert_eq!(fault["loc"][0], "body");
        assert!(fault["loc"][1].is_u64(), "{fault}");
        assert_eq!(fault["input"], json!({}));
        assert!(fault["ctx"]["error"].is_string());
    }
}

#[test]
fn b4_what_is_no_object_is_told_so() {
    for body in ["[]", "\"x\"", "null", "5"] {
        let fault = first_fault(JSON, body.as_bytes());
        assert_eq!(fault["type"], "model_attributes_type", "{body}");
        assert_eq!(fault["loc"], json!(["body"]));
        assert_eq!(fault["input"].to_string(), body);
    }
}

#[test]
fn b5_a_field_given_twice_is_a_fault_even_when_spelt_with_an_escape() {
    for key in ["user_id", r"user\u005fid"] {
        let body = format!(r#"{{"user_id":1,"amount":5,"description":"","{key}":2}}"#);
        let fault = first_fault(JSON, body.as_bytes());
        assert_eq!(fault["loc"], json!(["body", "user_id"]), "{body}");
        assert_eq!(fault["input"], json!([1, 2]));
    }
}

#[test]
fn b6_and_b7_what_cannot_be_read_is_400() {
    let nested = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(faults_of_order(JSON, nested.as_bytes()), json!(400));
    let not_text = b"{\"description\":\"\xff\xfe\"}";
    assert_eq!(faults_of_order(JSON, not_text), json!(400));
}

#[test]
fn b8_a_byte_order_mark_is_skipped_and_utf16_is_not_json() {
    let marked = format!("\u{feff}{GOOD_ORDER}");
    assert_eq!(faults_of_order(JSON, marked.as_bytes()), json!([]));
    for mark in [&b"\xff\xfe"[..], b""] {
        let mut bytes = mark.to_vec();
        bytes.extend(GOOD_ORDER.encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(first_fault(JSON, &bytes)["type"], "json_invalid");
    }
}

#[test]
fn b9_other_fields_are_ignored_but_must_be_json() {
    let extra = GOOD_ORDER.replacen('{', r#"{"status":"FINISHED","id":7,"id":8,"#, 1);
    assert_eq!(faults_of_order(JSON, extra.as_bytes()), json!([]));
    let broken = GOOD_ORDER.replacen('{', r#"{"extra":{"deep":["\udc00"]},"#, 1);
    assert_eq!(first_fault(JSON, broken.as_bytes())["type"], "json_invalid");
}

#[test]
fn b10_to_b12_content_types() {
    for good in [
        None,
        JSON,
        Some("application/json; charset=utf-8"),
        Some("application/vnd.x+json"),
        Some("Application/JSON"),
    ] {
        assert_eq!(faults_of_order(good, GOOD_ORDER.as_bytes()), json!([]));
    }
    for bad in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/json",
    ] {
        let fault = first_fault(Some(bad), GOOD_ORDER.as_bytes());
        assert_eq!(fault["type"], "model_attributes_type", "{bad}");
        assert_eq!(fault["input"], GOOD_ORDER);
    }
}

#[test]
fn b15_all_faults_are_listed_in_field_order() {
    let found = faults_of_order(JSON, br#"{"description":5,"amount":"x"}"#);
    let locs: Vec<&Value> = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| &fault["loc"][1])
        .collect();
    assert_eq!(locs, ["user_id", "amount", "description"]);
}

#[test]
fn p1_to_p5_integers_in_the_path() {
    let rows: &[(&str, &str, Result<i64, &str>)] = &[
        ("p1", "abc", Err("int_parsing")),
        ("p2", "9223372036854775808", Err("less_than_equal")),
        ("p2", "-9223372036854775809", Err("greater_than_equal")),
        ("p3", "-1", Ok(-1)),
        ("p3b", "0", Ok(0)),
        ("p4", "1.0", Err("int_parsing")),
        ("p4", "+1", Err("int_parsing")),
        ("p5", "%31", Ok(1)),
        ("p13", "..%2f..%2fadmin", Err("int_parsing")),
        ("p13", "%00", Err("int_parsing")),
        ("p13", "%ff", Err("int_parsing")),
        ("p13", "%d9%a1", Err("int_parsing")),
    ];
    for (row, segment, answer) in rows {
        for pattern in ["/v1/orders/{order_id}", "/v1/orders/{order_id}/"] {
            let url = pattern.replace("{order_id}", segment);
            let mut faults = Faults::new();
            let value = Path::test(pattern, &url).integer("order_id", &mut faults);
            let read = match (value, faults.finish()) {
                (Some(value), Ok(())) => Ok(value),
                (None, Err(error)) => Err(types(&error)[0]),
                (value, faults) => panic!("{row}: {value:?} with {faults:?}"),
            };
            assert_eq!(read, *answer, "{row}: {segment}");
        }
    }
}

#[test]
fn p6_to_p8_integers_in_the_query() {
    let rows: &[(&str, &str, Result<i64, &str>)] = &[
        ("p3b", "user_id=-1", Ok(-1)),
        ("p6", "", Err("missing")),
        ("p6", "other=1", Err("missing")),
        ("p7", "user_id=", Err("int_parsing")),
        ("p7", "user_id", Err("int_parsing")),
        ("p7", "user_id=x", Err("int_parsing")),
        ("p7", "user_id=+1", Err("int_parsing")),
        ("p8", "user_id=1&user_id=2", Err("multiple_argument_values")),
        (
            "p8",
            "user_id=1&user%5Fid=2",
            Err("multiple_argument_values"),
        ),
        ("p5", "user_id=%31", Ok(1)),
    ];
    for (row, query, answer) in rows {
        let mut faults = Faults::new();
        let value = Query::test(query).integer("user_id", &mut faults);
        let read = match (value, faults.finish()) {
            (Some(value), Ok(())) => Ok(value),
            (None, Err(error)) => Err(types(&error)[0]),
            (value, faults) => panic!("{row}: {value:?} with {faults:?}"),
        };
        assert_eq!(read, *answer, "{row}: {query}");
    }
}

#[test]
fn p6_a_missing_query_value_is_told_as_fastapi_tells_it() {
    let mut faults = Faults::new();
    Query::test("").integer("user_id", &mut faults);
    let error = faults.finish().expect_err("is missing");
    assert_eq!(
        serde_json::to_string(error.faults()).expect("renders"),
        r#"[{"type":"missing","loc":["query","user_id"],"msg":"Field required","input":null}]"#
    );
}

#[test]
fn p9_faults_of_the_path_come_first() {
    let mut faults = Faults::new();
    Query::test("").integer("user_id", &mut faults);
    Path::test("/v1/orders/{order_id}", "/v1/orders/abc").integer("order_id", &mut faults);
    let error = faults.finish().expect_err("two faults");
    assert_eq!(types(&error), ["int_parsing", "missing"]);
}

#[test]
fn optional_values_may_be_absent_but_not_wrong() {
    let read = |query: &str| {
        let mut faults = Faults::new();
        let query = Query::test(query);
        let limit = query.optional_integer("limit", 1..=1000, &mut faults);
        let cursor = query.optional_text("cursor", 5, &mut faults);
        match faults.finish() {
            Ok(()) => Ok((limit, cursor)),
            Err(error) => Err(types(&error)),
        }
    };
    assert_eq!(read(""), Ok((None, None)));
    assert_eq!(
        read("limit=7&cursor=a+b"),
        Ok((Some(7), Some("a b".to_owned())))
    );
    assert_eq!(read("limit=0"), Err(vec!["greater_than_equal"]));
    assert_eq!(read("limit=1001"), Err(vec!["less_than_equal"]));
    assert_eq!(
        read("limit=x&cursor=abcdef"),
        Err(vec!["int_parsing", "string_too_long"])
    );
    assert_eq!(read("cursor=%00"), Err(vec!["string_nul"]));
}

/// Pieces of JSON and of what breaks it, so that random bodies get past the first byte.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#"{"user_id":"#.to_owned()),
        Just(r#","amount":"#.to_owned()),
        Just(r#","description":"#.to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("\\u".to_owned()),
        "[-+]?[0-9]{0,40}([.][0-9]{0,40})?([eE][-+]?[0-9]{0,25})?",
        "\"[^\"\\\\]{0,12}\"",
        "\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        faults_of_order(JSON, &bytes);
        faults_of_order(Some("text/plain"), &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let mut faults = Faults::new();
        Query::test(&text).integer("user_id", &mut faults);
        Path::test("/{id}", &format!("/{text}")).integer("id", &mut faults);
        prop_assert!(faults.finish().is_ok() || !text.is_empty() || bytes.is_empty());
    }

    #[test]
    fn no_pieces_of_json_make_a_reader_panic(pieces in proptest::collection::vec(fragment(), 0..12)) {
        faults_of_order(JSON, pieces.concat().as_bytes());
    }

    #[test]
    fn an_amount_is_never_rounded(hundredths in 1_i64..1_000_000_000_000_000_000, zeros in 0_usize..8) {
        let exact = Decimal::new(hundredths, 2);
        prop_assert_eq!(exact.to_string(), amount(&format!("{exact}{}", "0".repeat(zeros))));
        prop_assert_eq!(exact.to_string(), amount(&format!("\"{exact}\"")));
    }

    #[test]
    fn an_amount_that_is_taken_has_the_value_that_was_written(text in "-?[0-9]{1,20}([.][0-9]{1,6})?") {
        let read = amount(&format!("\"{text}\""));
        if let Ok(read) = read.parse::<Decimal>() {
            prop_assert_eq!(read, text.parse::<Decimal>().expect("plain digits"));
        }
    }
}
