-- What a next migration may look like: columns with defaults, a constraint, a table.

ALTER TABLE message
    ADD COLUMN revision  int         NOT NULL DEFAULT 0,
    ADD COLUMN edited_at timestamptz,
    -- What is there already is looked at later, without keeping anybody out.
    ADD CONSTRAINT revision_is_not_negative CHECK (revision >= 0) NOT VALID;

CREATE TABLE reaction (
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    user_id         text        COLLATE "C" NOT NULL,
    emoji           text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq, user_id, emoji)
);
