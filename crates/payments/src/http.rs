//! The HTTP API of accounts. No SQL here.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chassis::database::{again, bounded};
use chassis::error::{ApiError, Code, ErrorBody, HTTPValidationError};
use chassis::extract::{Body, Faults, Path};
use chassis::http::both;
use chassis::tasks::Tasks;
use contracts::{Money, UserId};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::{OpenApi, ToSchema};

use crate::account::Account;
use crate::{deposit, open_account, store};

/// What the handlers need.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) pool: PgPool,
    /// Writes run here: a client that hangs up must not cut one short.
    pub(crate) tasks: Tasks,
}

/// The routes, each with and without its trailing slash.
pub(crate) fn router(api: Api) -> Router {
    let router = both(Router::new(), "/v1/accounts", post(create_account));
    let router = both(router, "/v1/accounts/deposit", post(make_deposit));
    both(router, "/v1/accounts/{user_id}", get(get_account)).with_state(Arc::new(api))
}

/// The part of the system's document that accounts own.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    paths(create_account, make_deposit, get_account),
    components(schemas(AccountBody, NewAccountBody, DepositBody, ErrorBody, HTTPValidationError)),
    tags((name = "accounts", description = "Accounts and their balance"))
)]
struct Document;

/// What a client sends to open an account.
#[derive(ToSchema)]
#[schema(as = NewAccount)]
#[expect(
    dead_code,
    reason = "describes the body to the OpenAPI document; it is read field by field"
)]
struct NewAccountBody {
    /// Whose account.
    #[schema(example = 101, minimum = 1)]
    user_id: i64,
}

/// What a client sends to pay in.
#[derive(ToSchema)]
#[schema(as = Deposit)]
#[expect(
    dead_code,
    reason = "describes the body to the OpenAPI document; it is read field by field"
)]
struct DepositBody {
    /// Whose account.
    #[schema(example = 101, minimum = 1)]
    user_id: i64,
    /// Above zero, at most two decimals, as a string or a number.
    #[schema(value_type = String, example = "500.00")]
    amount: Money,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
struct AccountBody {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = 101)]
    user_id: i64,
    /// Always two decimals.
    #[schema(value_type = String, example = "350.00")]
    balance: Money,
}

impl From<Account> for AccountBody {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            user_id: account.user_id.0,
            balance: account.balance,
        }
    }
}

/// Opens an account with a balance of nothing.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = NewAccountBody,
    responses(
        (status = 201, description = "Opened", body = AccountBody),
        (status = 409, description = "The user has an account", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn create_account(State(api): State<Arc<Api>>, body: Body) -> Result<Response, ApiError> {
    let mut faults = Faults::new();
    let user_id = body
        .object(&mut faults)
        .and_then(|object| object.positive_integer("user_id", &mut faults));
    faults.finish()?;
    let user_id = UserId(user_id.ok_or_else(unread)?);
    let pool = api.pool.clone();
    let account = api
        .tasks
        .write(async move { open_account::open_account(&pool, user_id).await })
        .await?;
    Ok((StatusCode::CREATED, Json(AccountBody::from(account))).into_response())
}

/// Pays money into an account.
#[utoipa::path(
    post, path = "/v1/accounts/deposit", tag = "accounts", request_body = DepositBody,
    responses(
        (status = 200, description = "Paid in", body = AccountBody),
        (status = 404, description = "The user has no account", body = ErrorBody),
        (status = 409, description = "The balance would pass its limit", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn make_deposit(
    State(api): State<Arc<Api>>,
    body: Body,
) -> Result<Json<AccountBody>, ApiError> {
    let mut faults = Faults::new();
    let fields = body.object(&mut faults).map(|object| {
        let user_id = object.positive_integer("user_id", &mut faults);
        let amount = object.money("amount", &mut faults);
        (user_id, amount)
    });
    faults.finish()?;
    let Some((Some(user_id), Some(amount))) = fields else {
        return Err(unread());
    };
    let amount: Money = amount.try_into().map_err(ApiError::internal)?;
    let pool = api.pool.clone();
    let account = api
        .tasks
        .write(async move { deposit::deposit(&pool, UserId(user_id), amount).await })
        .await?;
    Ok(Json(account.into()))
}

/// An account and its balance.
#[utoipa::path(
    get, path = "/v1/accounts/{user_id}", tag = "accounts",
    params(("user_id" = i64, Path, description = "Whose account")),
    responses(
        (status = 200, description = "The account", body = AccountBody),
        (status = 404, description = "The user has no account", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 502, description = "The service cannot be reached", body = ErrorBody),
        (status = 503, description = "Not now; try again after Retry-After", body = ErrorBody),
        (status = 504, description = "The service does not answer: the outcome is unknown", body = ErrorBody),
    )
)]
async fn get_account(
    State(api): State<Arc<Api>>,
    path: Path,
) -> Result<Json<AccountBody>, ApiError> {
    let mut faults = Faults::new();
    let user_id = path.integer("user_id", &mut faults);
    faults.finish()?;
    let user_id = UserId(user_id.ok_or_else(unread)?);
    bounded(again(|| store::find_account(&api.pool, user_id)))
        .await?
        .map(|account| Json(account.into()))
        .ok_or_else(|| ApiError::not_found(Code::AccountNotFound, "Account not found"))
}

/// A value that is absent without a fault said about it: the extractors rule it out.
fn unread() -> ApiError {
    ApiError::bad_request("There was an error parsing the body")
}
