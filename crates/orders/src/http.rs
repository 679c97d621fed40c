//! The HTTP API of orders. No SQL here.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::coalesce::Coalesce;
use chassis::database::{again, bounded};
use chassis::error::{ApiError, Code, ErrorBody, HTTPValidationError};
use chassis::extract::{Body, Faults, Path, Query};
use chassis::http::{both, request_id, traceparent};
use contracts::{MessageId, Money, OrderId, OrderUid, UserId};
use futures::stream;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::{OpenApi, ToSchema};

use crate::order::{NewOrder, Order, Status};
use crate::place_order::Placed;
use crate::store;

/// Characters of a description.
const DESCRIPTION_MAX: usize = 4096;
/// Orders read at a time while a list is streamed.
const PAGE: i64 = 1000;

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) pool: PgPool,
    pub(crate) accept: Coalesce<NewOrder, Placed>,
}

/// The routes, each with and without its trailing slash.
pub(crate) fn router(api: Api) -> Router {
    let router = both(
        Router::new(),
        "/v1/orders",
        get(list_orders).post(place_order),
    );
    both(router, "/v1/orders/{order_id}", get(get_order)).with_state(Arc::new(api))
}

/// The part of the system's document that orders own.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(place_order, list_orders, get_order),
    components(schemas(OrderBody, NewOrderBody, OrderStatus, ErrorBody, HTTPValidationError)),
    tags((name = "orders", description = "Orders and their status"))
)]
struct Document;

/// What a client sends to order.
#[derive(ToSchema)]
#[schema(as = NewOrder)]
#[expect(
    dead_code,
    reason = "describes the body to the OpenAPI document; it is read field by field"
)]
struct NewOrderBody {
    /// Who pays.
    #[schema(example = 101, minimum = 1)]
    user_id: i64,
    /// Above zero, at most two decimals, as a string or a number.
    #[schema(value_type = String, example = "150.00")]
    amount: Money,
    /// Any text of at most 4096 characters.
    #[schema(example = "хз", max_length = 4096)]
    description: String,
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
struct OrderBody {
    #[schema(example = 123)]
    id: i64,
    #[schema(example = 101)]
    user_id: i64,
    /// Always two decimals.
    #[schema(value_type = String, example = "150.00")]
    amount: Money,
    #[schema(example = "хз")]
    description: String,
    #[schema(value_type = OrderStatus)]
    status: &'static str,
}

/// `NEW`, then `FINISHED` (charged once) or `CANCELLED` (not charged), then never another.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "describes the words to the OpenAPI document")]
enum OrderStatus {
    New,
    Finished,
    Cancelled,
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        Self {
            id: order.id.0,
            user_id: order.user_id.0,
            amount: order.amount,
            description: order.description,
            status: order.status.as_str(),
        }
    }
}

/// Places an order and answers at once, before it is paid.
#[utoipa::path(
    post, path = "/v1/orders/", tag = "orders", request_body = NewOrderBody,
    responses(
        (status = 201, description = "Accepted; the payment is under way", body = OrderBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn place_order(State(api): State<Arc<Api>>, body: Body) -> Result<Response, ApiError> {
    let order = parse(&body)?;
    let placed = OrderBody {
        id: 0,
        user_id: order.user_id.0,
        amount: order.amount,
        description: order.description.clone(),
        status: Status::New.as_str(),
    };
    // The writers are tasks of their own: a client that hangs up here cancels nothing.
    let order_id = api
        .accept
        .submit(order)
        .await
        .map_err(|_| ApiError::unavailable())??;
    let location = format!("/v1/orders/{order_id}?user_id={}", placed.user_id);
    let order = OrderBody {
        id: order_id.0,
        ..placed
    };
    Ok((StatusCode::CREATED, [("location", location)], Json(order)).into_response())
}

/// Lists all orders of a user, newest first.
#[utoipa::path(
    get, path = "/v1/orders/", tag = "orders",
    params(("user_id" = i64, Query, description = "Whose orders")),
    responses(
        (status = 200, description = "Newest first", body = [OrderBody]),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn list_orders(State(api): State<Arc<Api>>, query: Query) -> Result<Response, ApiError> {
    let mut faults = Faults::new();
    let user_id = query.integer("user_id", &mut faults);
    faults.finish()?;
    let user_id = UserId(user_id.unwrap_or_default());
    // The first page is read before the answer begins, so that a fault still gets its status.
    let page = bounded(again(|| {
        store::list_orders(&api.pool, user_id, OrderId(i64::MAX), PAGE)
    }))
    .await?;
    let chunks = stream::try_unfold(Some((page, true)), move |state| {
        let pool = api.pool.clone();
        async move {
            let Some((page, first)) = state else {
                return Ok::<_, sqlx::Error>(None);
            };
            let chunk = render(&page, first);
            let last = page
                .last()
                .map(|order| order.id)
                .filter(|_| page.len() as i64 == PAGE);
            let Some(last) = last else {
                return Ok(Some((chunk + "]", None)));
            };
            let next = bounded(again(|| store::list_orders(&pool, user_id, last, PAGE))).await?;
            Ok(Some((chunk, Some((next, false)))))
        }
    });
    Ok((
        [("content-type", "application/json")],
        ResponseBody::from_stream(chunks),
    )
        .into_response())
}

/// A page as the next piece of a JSON array.
fn render(page: &[Order], first: bool) -> String {
    let mut text = String::from(if first { "[" } else { "" });
    for (n, order) in page.iter().enumerate() {
        if n > 0 || !first {
            text.push(',');
        }
        let body = OrderBody::from(order.clone());
        text.push_str(&serde_json::to_string(&body).expect("a flat struct is always JSON"));
    }
    text
}

/// One order and its status.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}", tag = "orders",
    params(
        ("order_id" = i64, Path, description = "Which order"),
        ("user_id" = i64, Query, description = "Whose order it must be"),
    ),
    responses(
        (status = 200, description = "The order", body = OrderBody),
        (status = 404, description = "Missing, or somebody else's", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn get_order(
    State(api): State<Arc<Api>>,
    path: Path,
    query: Query,
) -> Result<Json<OrderBody>, ApiError> {
    let mut faults = Faults::new();
    let order_id = path.integer("order_id", &mut faults);
    let user_id = query.integer("user_id", &mut faults);
    faults.finish()?;
    let (order_id, user_id) = (order_id.unwrap_or_default(), user_id.unwrap_or_default());
    bounded(again(|| {
        store::find_order(&api.pool, OrderId(order_id), UserId(user_id))
    }))
    .await?
    .map(|order| Json(order.into()))
    .ok_or_else(|| ApiError::not_found(Code::OrderNotFound, "Order not found"))
}

fn parse(body: &Body) -> Result<NewOrder, ApiError> {
    let mut faults = Faults::new();
    let fields = body.object(&mut faults).map(|object| {
        let user_id = object.positive_integer("user_id", &mut faults);
        let amount = object.money("amount", &mut faults);
        let description = object.text("description", DESCRIPTION_MAX, &mut faults);
        (user_id, amount, description)
    });
    faults.finish()?;
    let Some((Some(user_id), Some(amount), Some(description))) = fields else {
        return Err(ApiError::bad_request("the body could not be read"));
    };
    Ok(NewOrder {
        order_uid: OrderUid::new(),
        message_id: MessageId::new(),
        user_id: UserId(user_id),
        amount: amount.try_into().map_err(ApiError::internal)?,
        description,
        traceparent: traceparent(),
        request_id: Some(request_id()).filter(|id| !id.is_empty()),
    })
}
