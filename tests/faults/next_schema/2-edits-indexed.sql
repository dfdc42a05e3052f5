-- What takes its time on a large table, none of it under a lock that keeps writers out.
-- transactional: false

ALTER TABLE message VALIDATE CONSTRAINT revision_is_not_negative;

CREATE INDEX CONCURRENTLY message_by_time ON message (created_at, id);
