package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sidelightv1 "github.com/sidelight-dev/sidelight/clients/go/sidelight/v1"
)

// fakeServer serves one model, "digits", with one 2 x 3 input, in two pages of models.
type fakeServer struct {
	sidelightv1.UnimplementedModelServiceServer
	sidelightv1.UnimplementedExplainServiceServer
	failure  error
	received *sidelightv1.ExplainLinearityRequest
}

func (f *fakeServer) ListModels(
	_ context.Context, request *sidelightv1.ListModelsRequest,
) (*sidelightv1.ListModelsResponse, error) {
	if request.GetPageToken() == "" {
		return &sidelightv1.ListModelsResponse{
			Models: []*sidelightv1.Model{{Name: "digits", Versions: []*sidelightv1.ModelVersion{{
				Version: 7,
				State:   sidelightv1.ModelVersionState_MODEL_VERSION_STATE_AVAILABLE,
				Format:  sidelightv1.ModelFormat_MODEL_FORMAT_ONNX,
			}}}},
			NextPageToken: "second",
		}, nil
	}
	return &sidelightv1.ListModelsResponse{Models: []*sidelightv1.Model{{Name: "wines"}, {Name: "xrays", Versions: []*sidelightv1.ModelVersion{{
		Version: 1,
		State:   sidelightv1.ModelVersionState_MODEL_VERSION_STATE_FAILED,
		Format:  sidelightv1.ModelFormat_MODEL_FORMAT_SAVED_MODEL,
	}}}}}, nil
}

func (f *fakeServer) GetModel(
	_ context.Context, request *sidelightv1.GetModelRequest,
) (*sidelightv1.GetModelResponse, error) {
	return &sidelightv1.GetModelResponse{Model: &sidelightv1.ModelDetail{
		Name:    request.GetModel().GetName(),
		Version: 7,
		Status:  &sidelightv1.ModelVersion{Version: 7, Digest: "sha256:00"},
		Inputs: []*sidelightv1.TensorSpec{{
			Name: "pixels", DataType: sidelightv1.DataType_DATA_TYPE_FLOAT32, Shape: []int64{-1, 2, 3},
		}},
	}}, nil
}

func (f *fakeServer) ExplainLinearity(
	_ context.Context, request *sidelightv1.ExplainLinearityRequest,
) (*sidelightv1.ExplainLinearityResponse, error) {
	f.received = request
	if f.failure != nil {
		return nil, f.failure
	}
	return &sidelightv1.ExplainLinearityResponse{
		Layers: []*sidelightv1.LayerLinearity{
			{Layer: "probabilities", Output: true, Mean: 0.125, StandardDeviation: 0.5},
			{Layer: "dense_1", ZeroReason: sidelightv1.ZeroReason_ZERO_REASON_AFFINE, ZeroCount: 2},
		},
		InstanceCount: 2,
		Provenance:    &sidelightv1.Provenance{Model: "digits", Version: 7, Digest: "sha256:00"},
	}, nil
}

// runAgainst runs the program against the fake and returns its exit code and what it wrote.
func runAgainst(t *testing.T, fake *fakeServer, args ...string) (int, string, string) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	sidelightv1.RegisterModelServiceServer(server, fake)
	sidelightv1.RegisterExplainServiceServer(server, fake)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	var stdout, stderr bytes.Buffer
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })
	arguments := append([]string{"--address", "passthrough:///fake"}, args...)
	code := run(context.Background(), arguments, &stdout, &stderr, dial)
	return code, stdout.String(), stderr.String()
}

func lineOf(t *testing.T, output, first string) []string {
	t.Helper()
	for line := range strings.Lines(output) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == first {
			return fields
		}
	}
	t.Fatalf("no line begins with %q in:\n%s", first, output)
	return nil
}

func TestEveryPageOfModelsIsListed(t *testing.T) {
	fake := &fakeServer{}
	code, stdout, stderr := runAgainst(t, fake)
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if got := strings.Join(lineOf(t, stdout, "digits"), " "); got != "digits 7 AVAILABLE ONNX" {
		t.Errorf("first page: %q", got)
	}
	if got := strings.Join(lineOf(t, stdout, "xrays"), " "); got != "xrays 1 FAILED SAVED_MODEL" {
		t.Errorf("second page: %q", got)
	}
	if fake.received != nil {
		t.Error("no explanation was asked for, and one was made")
	}
}

func TestProfilePrintsOutputFirstAndWhyALayerIsZero(t *testing.T) {
	code, stdout, stderr := runAgainst(t, &fakeServer{}, "--model", "digits")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if got := strings.Join(lineOf(t, stdout, "probabilities"), " "); got != "probabilities 0.125 0.5 output" {
		t.Errorf("output row: %q", got)
	}
	if got := strings.Join(lineOf(t, stdout, "dense_1"), " "); got != "dense_1 0 0 affine" {
		t.Errorf("layer row: %q", got)
	}
}

func TestRequestAsksForAllLayersOnAUnitGridAtTheDescribedVersion(t *testing.T) {
	fake := &fakeServer{}
	file := filepath.Join(t.TempDir(), "two_instances.bin")
	raw := make([]byte, 0, 48)
	for value := range 12 {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(value)))
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runAgainst(t, fake, "--model", "digits", "--input", file, "--samples", "50", "--seed", "3"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	expected := &sidelightv1.ExplainLinearityRequest{
		Model: &sidelightv1.ModelSelector{
			Name: "digits", Choice: &sidelightv1.ModelSelector_Version{Version: 7}, Digest: "sha256:00",
		},
		Instances: &sidelightv1.Instances{Source: &sidelightv1.Instances_Inline{Inline: &sidelightv1.InlineInstances{
			Inputs: []*sidelightv1.NamedTensor{{Name: "pixels", Tensor: &sidelightv1.Tensor{
				DataType: sidelightv1.DataType_DATA_TYPE_FLOAT32,
				Shape:    []int64{2, 2, 3},
				Content:  &sidelightv1.Tensor_Raw{Raw: raw},
			}}},
		}}},
		Parameters: &sidelightv1.LinearityParameters{
			Sampling: &sidelightv1.LinearityParameters_Grid{Grid: &sidelightv1.GridSampling{
				FeatureRange: &sidelightv1.FeatureRange{Source: &sidelightv1.FeatureRange_Uniform{
					Uniform: &sidelightv1.UniformRange{Minimum: proto.Float64(0), Maximum: proto.Float64(1)},
				}},
			}},
			Samples: proto.Int32(50),
			Layers:  &sidelightv1.LayerSelection{All: true},
			Draws:   &sidelightv1.RandomDraws{Seed: 3},
		},
	}
	if !proto.Equal(fake.received, expected) {
		t.Errorf("the server received %v", fake.received)
	}
}

// The numbers are those of mulberry32 with seed 1; the TypeScript program is held to the same ones.
func TestRandomInstanceIsTheSameInEveryLanguage(t *testing.T) {
	raw := make([]byte, 3*float32Bytes)
	fillRandom(raw)
	for place, expected := range []float32{0.62707394, 0.0027357212, 0.52744704} {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[place*float32Bytes:])); got != expected {
			t.Errorf("number %d is %v, not %v", place, got, expected)
		}
	}
}

func TestFailureShowsReasonFieldsAndRetryDelay(t *testing.T) {
	refused, err := status.New(codes.InvalidArgument, "the epsilon is too large").WithDetails(
		&errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: "sidelight", Metadata: map[string]string{"field": "epsilon"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "parameters.grid.epsilon", Description: "must be at most 1"},
		}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	)
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runAgainst(t, &fakeServer{failure: refused.Err()}, "--model", "digits")
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for _, expected := range []string{
		"InvalidArgument", "the epsilon is too large",
		"reason: INVALID_FIELD (sidelight)\n  field: epsilon\n",
		"field: parameters.grid.epsilon: must be at most 1\n",
		"retry after: 1.5s\n",
	} {
		if !strings.Contains(stderr, expected) {
			t.Errorf("%q is missing in:\n%s", expected, stderr)
		}
	}
}

func TestFileThatHoldsNoWholeNumberOfInstancesIsRefusedBeforeTheServerIsAsked(t *testing.T) {
	fake := &fakeServer{}
	file := filepath.Join(t.TempDir(), "half.bin")
	if err := os.WriteFile(file, make([]byte, 36), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runAgainst(t, fake, "--model", "digits", "--input", file)
	if code != exitFailed || !strings.Contains(stderr, "multiple of 24") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if fake.received != nil {
		t.Error("the server was asked")
	}
}

func TestWrongUseExitsWithTwo(t *testing.T) {
	for _, args := range [][]string{{"--fill", "ones"}, {"stray"}, {"--unknown"}} {
		if code, _, _ := runAgainst(t, &fakeServer{}, args...); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

func TestFailureThatIsNotTheServersIsPrintedPlainly(t *testing.T) {
	var stderr bytes.Buffer
	writeFailure(&stderr, errors.New("the input file is empty"))
	if stderr.String() != "error: the input file is empty\n" {
		t.Errorf("%q", stderr.String())
	}
}
