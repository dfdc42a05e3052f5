-- When positions moved, and what users choose to show.
-- depends: 0001.conversations-and-messages

-- How far the counterpart may know that this participant has read: follows
-- read_seq while the participant shows its reading, and never goes back.
ALTER TABLE participant ADD COLUMN shown_read_seq bigint NOT NULL DEFAULT 0;

-- One row an advance, not a message: the first row at or beyond a message's
-- position tells when that message was delivered or read.
CREATE TABLE receipt (
    conversation_id uuid        NOT NULL,
    user_id         text        COLLATE "C" NOT NULL,
    is_read         boolean     NOT NULL,
    seq             bigint      NOT NULL,
    -- Whether the counterpart may know: always, unless the user hid its reading then.
    is_shown        boolean     NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, user_id, is_read, seq)
);

CREATE TABLE preference (
    user_id       text    COLLATE "C" PRIMARY KEY,
    -- Off: others see this user's messages as delivered, never as read.
    read_receipts boolean NOT NULL DEFAULT true,
    -- On: others see this user as offline.
    invisible     boolean NOT NULL DEFAULT false
);
