-- Which instance is the active one.
-- depends: 0003.last-seen

CREATE TABLE lease (
    -- The client id that whoever holds the lease has at the broker.
    name        text        COLLATE "C" PRIMARY KEY,
    -- One more with every new holder; what commits under an older one is refused.
    epoch       bigint      NOT NULL,
    acquired_at timestamptz NOT NULL
);

-- True, or an error that ends the statement: "no rows" means other things to those who ask.
CREATE FUNCTION demand_lease(wanted_name text, wanted_epoch bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM lease WHERE name = wanted_name AND epoch = wanted_epoch) THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'the lease has another epoch' USING ERRCODE = 'LE001';
END
$$;
