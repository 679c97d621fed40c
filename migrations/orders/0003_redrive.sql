-- Asking again with millions of orders unanswered: what is asked for already is found beside them,
-- by its turn and by how often it was asked for. An order that is answered in time enters neither.
create index orders_asked on orders (next_redrive_at) where status = 'NEW' and redrives > 0;
create index orders_asked_times on orders (redrives) where status = 'NEW' and redrives > 0;
