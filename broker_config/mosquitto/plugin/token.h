/* What a JWT must be, and what it says of its bearer. */
#ifndef JWT_ACCESS_TOKEN_H
#define JWT_ACCESS_TOKEN_H

#include <jwt.h>
#include <time.h>

#include "topics.h"

/* Seconds that clocks may differ: a token is good so long after `exp` and before `nbf`. */
#define TOKEN_LEEWAY 5

struct token_rules {
    jwt_alg_t algorithm; /* the only one accepted */
    unsigned char *key;  /* HMAC secret, or PEM of the public key */
    int key_length;
    char *audience; /* NULL: not checked */
    char *issuer;   /* NULL: not checked */
    bool requires_cid; /* of users */
};

struct token_claims {
    enum role role;
    char subject[USER_ID_LIMIT + 1];
    time_t expires_at; /* the claim `exp`, without leeway */
};

/*
 * Verifies the token and that it may use the client id, which is `{sub}:{device}`, and the claim `cid` where the
 * token has one. NULL when all is well, or the reason of the refusal, which never holds any part of the token.
 */
const char *token_refusal(const struct token_rules *rules, const char *token, const char *client_id, time_t now,
                          struct token_claims *claims);

#endif
