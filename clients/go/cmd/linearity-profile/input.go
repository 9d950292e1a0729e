package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	sidelightv1 "github.com/sidelight-dev/sidelight/clients/go/sidelight/v1"
)

const float32Bytes = 4

// makeInstances fills the model's input: from the file, or with one built-in instance.
func makeInstances(input *sidelightv1.TensorSpec, opts options) (*sidelightv1.Instances, error) {
	if input.GetDataType() != sidelightv1.DataType_DATA_TYPE_FLOAT32 {
		return nil, fmt.Errorf("the model's input %q is %s; this program sends FLOAT32", input.GetName(), input.GetDataType())
	}
	shape, err := instanceShape(input)
	if err != nil {
		return nil, err
	}
	values := int64(1)
	for _, length := range shape {
		values *= length
	}
	raw, err := instanceBytes(values, opts)
	if err != nil {
		return nil, err
	}
	rows := int64(len(raw)) / (values * float32Bytes)
	tensor := &sidelightv1.Tensor{
		DataType: sidelightv1.DataType_DATA_TYPE_FLOAT32,
		Shape:    append([]int64{rows}, shape...),
		Content:  &sidelightv1.Tensor_Raw{Raw: raw},
	}
	return &sidelightv1.Instances{Source: &sidelightv1.Instances_Inline{Inline: &sidelightv1.InlineInstances{
		Inputs: []*sidelightv1.NamedTensor{{Name: input.GetName(), Tensor: tensor}},
	}}}, nil
}

// instanceShape is the shape of one instance: the input's without its batch axis, free axes as 1.
func instanceShape(input *sidelightv1.TensorSpec) ([]int64, error) {
	if len(input.GetShape()) == 0 {
		return nil, fmt.Errorf("the model's input %q has no batch axis", input.GetName())
	}
	shape := append([]int64(nil), input.GetShape()[1:]...)
	for axis, length := range shape {
		if length < 0 {
			shape[axis] = 1
		}
		if length == 0 {
			return nil, fmt.Errorf("axis %d of the model's input %q has length 0", axis+1, input.GetName())
		}
	}
	return shape, nil
}

func instanceBytes(values int64, opts options) ([]byte, error) {
	if opts.input == "" {
		raw := make([]byte, values*float32Bytes)
		if opts.fill == "random" {
			fillRandom(raw)
		}
		return raw, nil
	}
	raw, err := os.ReadFile(opts.input)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, errors.New("the input file is empty")
	}
	if int64(len(raw))%(values*float32Bytes) != 0 {
		return nil, fmt.Errorf("the input file has %d bytes; an instance of this model has %d float32 values, so it must be a multiple of %d",
			len(raw), values, values*float32Bytes)
	}
	return raw, nil
}

// fillRandom writes numbers from 0 up to 1: mulberry32 from seed 1, so that the TypeScript program,
// which has the same few lines, asks about the same instance.
func fillRandom(raw []byte) {
	state := uint32(1)
	for offset := 0; offset < len(raw); offset += float32Bytes {
		state += 0x6D2B79F5
		mixed := (state ^ state>>15) * (state | 1)
		mixed ^= mixed + (mixed^mixed>>7)*(mixed|61)
		number := float64(mixed^mixed>>14) / (1 << 32)
		binary.LittleEndian.PutUint32(raw[offset:], math.Float32bits(float32(number)))
	}
}
