-- The post office of one service: what it sends, what it has received, what it could not read.
-- These bytes stand in crates/postbox/migrations and in each service's own folder; a test
-- compares them.

-- Outbox -----------------------------------------------------------------------------------

create sequence outbox_messages_id_seq;

-- No primary key: nothing looks a row up by id alone, and its index costs 9 % of the orders a
-- second and 305 bytes of WAL an order. The partial index below serves claim, mark and retry.
create table outbox_messages (
    id bigint not null default nextval('outbox_messages_id_seq'),
    -- the message's identity, the same in every row that sends it again
    message_id uuid not null,
    -- AMQP type and routing key
    kind text not null,
    -- business key, so that views and checks can join; absent where an operator sent a parked
    -- message again, whatever it is about
    key uuid,
    schema_version smallint not null default 1,
    -- text, not jsonb: what is sent again is the same bytes
    body text not null,
    -- bounded, because a header beyond the frame size closes the connection of a whole batch
    traceparent text check (octet_length(traceparent) <= 128),
    request_id text check (octet_length(request_id) <= 128),
    is_published boolean not null default false,
    -- how often it came back unsent: returned or refused
    attempts smallint not null default 0,
    -- A row is born leased to its writer, who publishes it from memory right after the commit.
    -- Whoever polls takes what is due, so a dead writer's rows leave within the lease.
    due_at timestamptz not null default now() + interval '15 s',
    created_at timestamptz not null default now()
) partition by range (created_at);

create index outbox_messages_due on outbox_messages (due_at) where not is_published;

-- Inbox ------------------------------------------------------------------------------------

create table inbox_messages (
    -- partitioned by ranges of the id itself, so that this key stays exact over all partitions
    message_id uuid primary key,
    key uuid not null,
    -- 'duplicate': a new message about something already decided
    outcome text not null check (outcome in ('applied', 'duplicate')),
    received_at timestamptz not null default now()
) partition by range (message_id);

-- Attempts: what was alone in the hands of a process that then died -----------------------------

-- Raised and committed before a message that was delivered before is tried alone, deleted in the
-- transaction that takes it in. So what is counted here is deaths; a message that is parked for
-- them keeps its row until it is replayed, and no copy of it is tried meanwhile.
create table delivery_attempts (
    queue text not null,
    -- as in parked_messages
    identity text not null,
    attempts integer not null check (attempts >= 0),
    primary key (queue, identity)
);

-- Parked: what cannot be processed ---------------------------------------------------------

create table parked_messages (
    id bigint generated always as identity primary key,
    queue text not null,
    -- as it came; absent where the message had none
    message_id text,
    -- the message_id, or a hash of the body where there is none: copies are counted, not stored
    identity text not null,
    -- business key, where the message could be read
    key uuid,
    kind text,
    schema_version bigint,
    reason text not null check (reason in (
        'not_json', 'bad_field', 'unknown_type', 'unknown_version', 'no_message_id',
        'bad_message_id', 'too_large', 'encoding', 'conflict', 'unknown_order',
        'contradiction', 'attempts', 'dead_lettered')),
    detail text not null,
    -- all properties and headers, for a person: bounded, a line each
    headers text not null,
    -- the first 128 KiB
    body bytea not null,
    traceparent text,
    request_id text,
    parked_at timestamptz not null default now(),
    seen bigint not null default 1,
    state text not null default 'open' check (state in ('open', 'replayed', 'dropped', 'closed')),
    state_at timestamptz not null default now(),
    constraint parked_messages_once unique (queue, identity)
);

create index parked_messages_key on parked_messages (key) where state in ('open', 'replayed');

-- open      to be looked at
-- replayed  sent again; a copy that fails again opens it anew
-- closed    taken in after all, or its order became final; a copy that fails opens it anew
-- dropped   for good: copies are counted and nothing else
create function parked_messages_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'parked message % is %, and cannot become %', old.id, old.state, new.state
        using errcode = 'integrity_constraint_violation', constraint = tg_name;
end
$$;
create trigger parked_messages_states before update on parked_messages for each row
    when (old.state <> new.state
          and (old.state, new.state) not in (
              ('open', 'replayed'), ('open', 'closed'), ('open', 'dropped'),
              ('replayed', 'open'), ('replayed', 'closed'), ('closed', 'open')))
    execute function parked_messages_refuse();

-- Partitions -------------------------------------------------------------------------------

create function uuid7_floor(at timestamptz) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
            || '00000000000000000000')::uuid
$$;

-- Makes the outbox days and inbox weeks ahead that are missing; returns how many it made. Rows
-- outside every range go to the DEFAULT partitions (foreign ids, a clock far off), and such a
-- row in the way of a new range leaves that range to the DEFAULT partition as well.
create function postbox_make_partitions() returns integer language plpgsql as $$
declare
    made integer := 0;
    from_at timestamptz;
    name text;
begin
    -- one maker at a time; whoever comes second finds nothing to do
    perform pg_advisory_xact_lock(hashtext('postbox_make_partitions'));
    -- Inbox before outbox: the order in which a consumer's transaction comes to them.
    for n in -1..8 loop
        from_at := (date_trunc('week', now() at time zone 'UTC') + n * interval '7 days') at time zone 'UTC';
        name := 'inbox_messages_' || to_char(from_at at time zone 'UTC', 'IYYY"w"IW');
        if to_regclass(name) is null then
            begin
                execute format(
                    'create table %I partition of inbox_messages for values from (%L) to (%L)',
                    name, uuid7_floor(from_at), uuid7_floor(from_at + interval '7 days'));
                made := made + 1;
            exception when check_violation then
                raise warning 'rows of % stand in the DEFAULT partition', name;
            end;
        end if;
    end loop;
    for n in -1..7 loop
        from_at := (date_trunc('day', now() at time zone 'UTC') + n * interval '1 day') at time zone 'UTC';
        name := 'outbox_messages_' || to_char(from_at at time zone 'UTC', 'YYYYMMDD');
        if to_regclass(name) is null then
            begin
                execute format(
                    'create table %I partition of outbox_messages for values from (%L) to (%L) with (fillfactor = 60)',
                    name, from_at, from_at + interval '1 day');
                made := made + 1;
            exception when check_violation then
                raise warning 'rows of % stand in the DEFAULT partition', name;
            end;
        end if;
    end loop;
    return made;
end
$$;

create table outbox_messages_default partition of outbox_messages default;
create table inbox_messages_default partition of inbox_messages default;
select postbox_make_partitions();

-- What an auditor may read -----------------------------------------------------------------

create schema audit;

create view audit.parked as
select message_id, queue, reason, parked_at, seen
  from parked_messages
 where state = 'open';

-- Roles belong to the whole cluster, so another database may have made this one already, at
-- this very moment too; and a login without CREATEROLE goes on without it.
do $$
begin
    if not exists (select from pg_roles where rolname = 'audit_ro') then
        create role audit_ro nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then
        raise warning 'role audit_ro not made: this login lacks CREATEROLE';
end
$$;

-- Grants what the audit schema holds by now; each migration that adds a view calls it. A login that
-- may not make others members of the role still grants what is its own.
create function audit_grant() returns void language plpgsql as $$
begin
    begin
        grant usage on schema audit to audit_ro;
        grant select on all tables in schema audit to audit_ro;
    exception
        when undefined_object then raise warning 'audit views not granted: there is no role audit_ro';
        when insufficient_privilege then raise warning 'audit views not granted in full: %', sqlerrm;
    end;
    begin
        if not pg_has_role(current_user, 'audit_ro', 'member') then
            execute format('grant audit_ro to %I', current_user);
        end if;
    exception
        when undefined_object then null;
        when insufficient_privilege then
            raise warning 'this login may not become audit_ro: %', sqlerrm;
    end;
end
$$;
