package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// writeFailure says what went wrong: for an error of the server its code and message, the reason that
// programs may rely on, and the path of each field that was wrong.
func writeFailure(stderr io.Writer, err error) {
	fmt.Fprintf(stderr, "error: %v\n", err)
	failure, ok := status.FromError(err)
	if !ok {
		return
	}
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Fprintf(stderr, "reason: %s (%s)\n", detail.GetReason(), detail.GetDomain())
			for _, key := range slices.Sorted(maps.Keys(detail.GetMetadata())) {
				fmt.Fprintf(stderr, "  %s: %s\n", key, detail.GetMetadata()[key])
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Fprintf(stderr, "field: %s: %s\n", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Fprintf(stderr, "retry after: %s\n", detail.GetRetryDelay().AsDuration())
		}
	}
}
