"""REST over gRPC for browsers and HTTP clients, and the demo page.

It holds no state and decides nothing about users: their token goes to the
messaging service unchanged, and the service's refusals come back as HTTP.

May import: `proto`, FastAPI, grpc, pydantic, PyJWT, structlog, uvicorn. Must
not import: `service`, `bridge`, `devstack`, `clients`.
"""
