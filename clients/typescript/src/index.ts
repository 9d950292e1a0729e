// The whole contract: messages, enums and services.
export * from "./gen/sidelight/v1/activation_pattern_pb.js";
export * from "./gen/sidelight/v1/error_pb.js";
export * from "./gen/sidelight/v1/explain_service_pb.js";
export * from "./gen/sidelight/v1/explanation_pb.js";
export * from "./gen/sidelight/v1/influence_pb.js";
export * from "./gen/sidelight/v1/job_pb.js";
export * from "./gen/sidelight/v1/job_service_pb.js";
export * from "./gen/sidelight/v1/linearity_pb.js";
export * from "./gen/sidelight/v1/lrp_pb.js";
export * from "./gen/sidelight/v1/model_pb.js";
export * from "./gen/sidelight/v1/model_service_pb.js";
export * from "./gen/sidelight/v1/reference_pb.js";
export * from "./gen/sidelight/v1/reference_service_pb.js";
export * from "./gen/sidelight/v1/similarity_pb.js";
export * from "./gen/sidelight/v1/tensor_pb.js";
// The details that every error carries; read them with `ConnectError.findDetails`.
export { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
export type { BadRequest, ErrorInfo, RetryInfo } from "./gen/google/rpc/error_details_pb.js";
