-- Conversations, participants and messages.
-- depends:

CREATE TABLE conversation (
    id            uuid        PRIMARY KEY,
    kind          text        NOT NULL,
    context_type  text,
    context_id    text,
    -- The newest position taken; the row is locked while positions are handed out.
    last_seq      bigint      NOT NULL DEFAULT 0,
    -- UUIDv7 of the latest activity: order and cursor of the conversation list.
    activity_id   uuid        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((context_type IS NULL) = (context_id IS NULL))
    -- Every message updates this row, so leave room for updates within the page.
) WITH (fillfactor = 70);

CREATE TABLE participant (
    conversation_id uuid   NOT NULL REFERENCES conversation (id),
    user_id         text   COLLATE "C" NOT NULL,
    -- Cumulative positions; they only ever grow.
    delivered_seq   bigint NOT NULL DEFAULT 0,
    read_seq        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation_id, user_id),
    CHECK (delivered_seq >= read_seq)
) WITH (fillfactor = 70);

CREATE INDEX participant_by_user ON participant (user_id, conversation_id);

-- No foreign key to conversation: every insert joins the conversation row that
-- it has locked, and a check per row would double the cost of the insert.
CREATE TABLE message (
    conversation_id   uuid        NOT NULL,
    seq               bigint      NOT NULL,
    id                uuid        NOT NULL,
    sender_id         text        COLLATE "C" NOT NULL,
    client_message_id uuid        NOT NULL,
    body_hash         bytea       NOT NULL,
    text              text        NOT NULL,
    created_at        timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, seq)
);

CREATE UNIQUE INDEX message_id ON message (id);
CREATE UNIQUE INDEX message_idempotency_key ON message (sender_id, client_message_id);
