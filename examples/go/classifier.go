package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "densescan.example/service/triton"
)

// The finding that a threshold decides on; a task without one is labelled by its most probable label.
var positive = map[string]string{"xray": "PNEUMONIA", "mri": ""}

// Several addresses behind one name take turns, and those that are down are left out.
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// Classification is what the service answers.
type Classification struct {
	Label         string             `json:"label"`
	Confidence    float64            `json:"confidence"`
	Probabilities map[string]float64 `json:"probabilities"`
	Threshold     *float64           `json:"threshold"`
}

// Classifier asks a Triton server. It is safe for many goroutines, over one connection.
type Classifier struct {
	connection *grpc.ClientConn
	stub       pb.GRPCInferenceServiceClient
	thresholds sync.Map // task to *float64
}

// NewClassifier does not connect yet; the first request does, and later ones find a server that comes back.
func NewClassifier(url string) (*Classifier, error) {
	connection, err := grpc.NewClient(url,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	return &Classifier{connection: connection, stub: pb.NewGRPCInferenceServiceClient(connection)}, nil
}

// Close ends the connection.
func (c *Classifier) Close() error { return c.connection.Close() }

// Classify sends the file as it is: the server decodes, resizes and normalises it, and names the labels.
// The context's deadline and its end go along to the server.
func (c *Classifier) Classify(ctx context.Context, task string, file []byte) (*Classification, error) {
	// A BYTES tensor is its length and its content.
	tensor := make([]byte, 4, 4+len(file))
	binary.LittleEndian.PutUint32(tensor, uint32(len(file)))
	// As texts with labels, at most ten and the most probable first.
	labelled := map[string]*pb.InferParameter{
		"classification": {ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: 10}},
	}
	answer, err := c.stub.ModelInfer(ctx, &pb.ModelInferRequest{
		ModelName:        task + "_classifier",
		Inputs:           []*pb.ModelInferRequest_InferInputTensor{{Name: "encoded_image", Datatype: "BYTES", Shape: []int64{1, 1}}},
		Outputs:          []*pb.ModelInferRequest_InferRequestedOutputTensor{{Name: "probabilities", Parameters: labelled}},
		RawInputContents: [][]byte{append(tensor, file...)},
	})
	if err != nil {
		return nil, err
	}
	if len(answer.RawOutputContents) != 1 {
		return nil, fmt.Errorf("%d outputs; expected 1", len(answer.RawOutputContents))
	}
	probabilities, err := readLabels(answer.RawOutputContents[0])
	if err != nil {
		return nil, err
	}
	threshold, err := c.threshold(ctx, task)
	if err != nil {
		return nil, err
	}
	return decide(probabilities, positive[task], threshold), nil
}

// threshold is the operating point that was released with the model, in its config; nil for a task without one.
func (c *Classifier) threshold(ctx context.Context, task string) (*float64, error) {
	if positive[task] == "" {
		return nil, nil
	}
	if known, ok := c.thresholds.Load(task); ok {
		return known.(*float64), nil
	}
	answer, err := c.stub.ModelConfig(ctx, &pb.ModelConfigRequest{Name: task + "_densenet121"})
	if err != nil {
		return nil, err
	}
	value := 0.5
	if parameter, ok := answer.Config.Parameters["operating_point"]; ok {
		if value, err = strconv.ParseFloat(parameter.StringValue, 64); err != nil {
			return nil, fmt.Errorf("operating_point in the config of %s: %w", task, err)
		}
	}
	c.thresholds.Store(task, &value)
	return &value, nil
}

// readLabels takes apart entries such as "0.97:1:PNEUMONIA", each behind its length in four bytes.
func readLabels(raw []byte) (map[string]float64, error) {
	probabilities := map[string]float64{}
	for len(raw) > 0 {
		if len(raw) < 4 || uint64(len(raw)) < 4+uint64(binary.LittleEndian.Uint32(raw)) {
			return nil, fmt.Errorf("the answer ends within an entry")
		}
		end := 4 + int(binary.LittleEndian.Uint32(raw))
		parts := strings.SplitN(string(raw[4:end]), ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("an entry %q; expected probability:index:label", parts)
		}
		probability, err := strconv.ParseFloat(parts[0], 64)
		if err != nil {
			return nil, err
		}
		probabilities[parts[2]] = probability
		raw = raw[end:]
	}
	return probabilities, nil
}

// decide takes the positive label from the threshold on, and else the most probable of the others.
func decide(probabilities map[string]float64, positive string, threshold *float64) *Classification {
	result := &Classification{Confidence: -1, Probabilities: probabilities, Threshold: threshold}
	found := threshold != nil && probabilities[positive] >= *threshold
	for label, probability := range probabilities {
		if threshold != nil && (label == positive) != found {
			continue
		}
		if probability > result.Confidence {
			result.Label, result.Confidence = label, probability
		}
	}
	return result
}
