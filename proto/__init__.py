"""The gRPC contracts and the stubs generated from them (`make proto`).

May import: grpc and protobuf. Must not import: anything of this repository.
"""
