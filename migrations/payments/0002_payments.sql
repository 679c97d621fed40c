-- Accounts, the permanent decision on each order, and the ledger that explains each balance.

create table accounts (
    id bigint generated always as identity primary key,
    user_id bigint not null constraint accounts_one_per_user unique check (user_id > 0),
    balance numeric(18, 2) not null default 0
        constraint accounts_never_below_zero check (balance >= 0 and balance <> 'NaN')
    -- updated in place for every charge
) with (fillfactor = 60);

-- One row per order for ever, paid or declined: it decides "seen before" even when the inbox
-- row is gone or the request comes under another message_id.
create table payments (
    order_uid uuid primary key,
    order_id bigint not null,
    user_id bigint not null,
    amount numeric(18, 2) not null check (amount > 0 and amount <> 'NaN'),
    outcome text not null check (outcome in ('paid', 'declined')),
    reason text check (reason in ('no_account', 'insufficient_funds')),
    -- the answer's identity: each copy of the answer is the same message
    result_message_id uuid not null,
    settled_at timestamptz not null default now(),
    constraint payments_reason_fits check ((outcome = 'paid') = (reason is null))
);

create table ledger_entries (
    entry_id bigint generated always as identity primary key,
    user_id bigint not null,
    kind text not null,
    -- signed: the sum over a user is the balance, at every commit
    amount numeric(18, 2) not null check (amount <> 'NaN'),
    order_uid uuid,
    at timestamptz not null default now(),
    constraint ledger_entries_kind_fits check (
        (kind = 'deposit' and amount > 0 and order_uid is null)
        or (kind = 'charge' and amount < 0 and order_uid is not null))
);

-- An order is charged at most once, whatever the code does.
create unique index ledger_entries_one_charge on ledger_entries (order_uid) where kind = 'charge';
create index ledger_entries_user on ledger_entries (user_id, entry_id desc);

-- Requests that came while somebody else held their account locked, and later ones of the same
-- user. Nobody else waits for them: each is decided in its turn once the account is free. An
-- order may stand here several times, as its request may be delivered several times.
create table waiting_messages (
    -- the turn: in order of delivery
    id bigint generated always as identity primary key,
    message_id uuid not null,
    order_uid uuid not null,
    order_id bigint not null,
    -- no foreign key: its check would wait for the very lock that is waited for here
    user_id bigint not null,
    amount numeric(18, 2) not null check (amount > 0 and amount <> 'NaN'),
    traceparent text check (octet_length(traceparent) <= 128),
    request_id text check (octet_length(request_id) <= 128),
    waiting_since timestamptz not null default now()
);
create index waiting_messages_user on waiting_messages (user_id, id);
create index waiting_messages_order on waiting_messages (order_uid);

create function written_once() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name
        using errcode = 'integrity_constraint_violation';
end
$$;
create trigger ledger_entries_written_once before update or delete on ledger_entries
    for each row execute function written_once();
create trigger payments_written_once before update or delete on payments
    for each row execute function written_once();

create view audit.accounts as
select user_id, balance from accounts;

create view audit.payments as
select order_uid, order_id, user_id, amount, outcome, reason, settled_at from payments;

create view audit.ledger as
select entry_id, user_id, kind, amount, order_uid, null::text as idem_key, at from ledger_entries;

create view audit.outbox as
select message_id, key as order_uid, is_published as sent, is_published as resolved,
       attempts::int as attempts
  from outbox_messages;

create view audit.inbox as
select message_id, key as order_uid, outcome
  from inbox_messages;

select audit_grant();
