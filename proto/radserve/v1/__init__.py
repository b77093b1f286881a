"""The public API: protobuf messages and gRPC stubs made from the .proto files in this folder."""
