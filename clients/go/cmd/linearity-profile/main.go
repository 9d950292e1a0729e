// Command linearity-profile shows how linear a served model is at each of its layers.
//
// It lists the models of a Sidelight server, describes the chosen one, asks for its linearity at the
// output and at every layer, and prints a table. It is written against the generated stubs alone, as
// an example of the whole conversation: discovery, tensors, request, errors.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	sidelightv1 "github.com/sidelight-dev/sidelight/clients/go/sidelight/v1"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2

	// grpc-go takes 4 MiB unless told otherwise; explanations of large batches are larger.
	maxResponseBytes = 64 << 20
)

type options struct {
	address string
	model   string
	version int64
	input   string
	fill    string
	samples int
	seed    uint64
	timeout time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, extra ...grpc.DialOption) int {
	opts, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()

	dialOptions := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
	}, extra...)
	connection, err := grpc.NewClient(opts.address, dialOptions...)
	if err != nil {
		fmt.Fprintf(stderr, "can not use the address %q: %v\n", opts.address, err)
		return exitUsage
	}
	defer connection.Close()

	if err := profile(ctx, connection, opts, stdout); err != nil {
		writeFailure(stderr, err)
		return exitFailed
	}
	return exitOK
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("linearity-profile", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.address, "address", "127.0.0.1:8461", "`host:port` of the Sidelight server")
	flags.StringVar(&opts.model, "model", "", "`name` of the model; without it, the models are only listed")
	flags.Int64Var(&opts.version, "version", 0, "version `number`; 0 is the highest that is available")
	flags.StringVar(&opts.input, "input", "", "`file` of raw little-endian float32 instances")
	flags.StringVar(&opts.fill, "fill", "random", "instance to use without --input: random or zeros")
	flags.IntVar(&opts.samples, "samples", 20, "samples around each instance")
	flags.Uint64Var(&opts.seed, "seed", 0, "seed of the samples")
	flags.DurationVar(&opts.timeout, "timeout", time.Minute, "deadline for everything")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fmt.Fprintln(stderr, err)
		return opts, err
	}
	if opts.fill != "random" && opts.fill != "zeros" {
		err := fmt.Errorf("--fill is %q; it must be random or zeros", opts.fill)
		fmt.Fprintln(stderr, err)
		return opts, err
	}
	return opts, nil
}

// profile holds the conversation with the server and prints what came of it.
func profile(ctx context.Context, connection grpc.ClientConnInterface, opts options, stdout io.Writer) error {
	models := sidelightv1.NewModelServiceClient(connection)
	if err := listModels(ctx, models, stdout); err != nil || opts.model == "" {
		return err
	}

	selector := &sidelightv1.ModelSelector{Name: opts.model}
	if opts.version != 0 {
		selector.Choice = &sidelightv1.ModelSelector_Version{Version: opts.version}
	}
	found, err := models.GetModel(ctx, &sidelightv1.GetModelRequest{Model: selector})
	if err != nil {
		return fmt.Errorf("describing the model: %w", err)
	}
	if len(found.GetModel().GetInputs()) != 1 {
		return fmt.Errorf("the model has %d inputs; linearity needs a model with one", len(found.GetModel().GetInputs()))
	}
	instances, err := makeInstances(found.GetModel().GetInputs()[0], opts)
	if err != nil {
		return err
	}
	// What was described is what to explain, even if something newer comes up in between.
	selector.Choice = &sidelightv1.ModelSelector_Version{Version: found.GetModel().GetVersion()}
	selector.Digest = found.GetModel().GetStatus().GetDigest()

	explained, err := sidelightv1.NewExplainServiceClient(connection).ExplainLinearity(ctx, linearityRequest(selector, instances, opts))
	if err != nil {
		return fmt.Errorf("explaining linearity: %w", err)
	}
	return writeProfile(stdout, explained)
}

func listModels(ctx context.Context, models sidelightv1.ModelServiceClient, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MODEL\tVERSION\tSTATE\tFORMAT")
	for token := ""; ; {
		page, err := models.ListModels(ctx, &sidelightv1.ListModelsRequest{PageToken: token})
		if err != nil {
			return fmt.Errorf("listing the models: %w", err)
		}
		for _, model := range page.GetModels() {
			for _, version := range model.GetVersions() {
				state := strings.TrimPrefix(version.GetState().String(), "MODEL_VERSION_STATE_")
				format := strings.TrimPrefix(version.GetFormat().String(), "MODEL_FORMAT_")
				fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", model.GetName(), version.GetVersion(), state, format)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return table.Flush()
		}
	}
}

// linearityRequest asks for the output and every layer, over a grid around inputs between 0 and 1.
func linearityRequest(
	model *sidelightv1.ModelSelector, instances *sidelightv1.Instances, opts options,
) *sidelightv1.ExplainLinearityRequest {
	return &sidelightv1.ExplainLinearityRequest{
		Model:     model,
		Instances: instances,
		Parameters: &sidelightv1.LinearityParameters{
			Sampling: &sidelightv1.LinearityParameters_Grid{Grid: &sidelightv1.GridSampling{
				FeatureRange: &sidelightv1.FeatureRange{Source: &sidelightv1.FeatureRange_Uniform{
					Uniform: &sidelightv1.UniformRange{Minimum: proto.Float64(0), Maximum: proto.Float64(1)},
				}},
			}},
			Samples: proto.Int32(int32(opts.samples)),
			Layers:  &sidelightv1.LayerSelection{All: true},
			Draws:   &sidelightv1.RandomDraws{Seed: opts.seed},
		},
	}
}

func writeProfile(stdout io.Writer, explained *sidelightv1.ExplainLinearityResponse) error {
	provenance := explained.GetProvenance()
	fmt.Fprintf(stdout, "\n%s version %d, %s, %d instance(s)\n",
		provenance.GetModel(), provenance.GetVersion(), provenance.GetDigest(), explained.GetInstanceCount())
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LAYER\tLINEARITY\tDEVIATION\tNOTE")
	for _, layer := range explained.GetLayers() {
		fmt.Fprintf(table, "%s\t%.6g\t%.6g\t%s\n", layer.GetLayer(), layer.GetMean(), layer.GetStandardDeviation(), note(layer))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, warning := range provenance.GetWarnings() {
		fmt.Fprintf(stdout, "warning %s: %s\n", warning.GetCode(), warning.GetMessage())
	}
	return nil
}

// note says what a reader should know of a row: that it is the output, and why it is 0.
func note(layer *sidelightv1.LayerLinearity) string {
	var notes []string
	if layer.GetOutput() {
		notes = append(notes, "output")
	}
	switch layer.GetZeroReason() {
	case sidelightv1.ZeroReason_ZERO_REASON_AFFINE:
		notes = append(notes, "affine")
	case sidelightv1.ZeroReason_ZERO_REASON_BELOW_NOISE_FLOOR:
		notes = append(notes, fmt.Sprintf("%d below the noise floor", layer.GetZeroCount()))
	}
	return strings.Join(notes, ", ")
}
