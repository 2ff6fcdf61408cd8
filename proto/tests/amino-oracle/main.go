// Command amino-oracle fills in what the Cosmos SDK's own encoder writes for the samples on standard input: see README.md.
//
//	amino-oracle <descriptors.bin> < samples.json > ../golden/amino.json
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"log"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	_ "cosmossdk.io/api/amino" // the options of amino/amino.proto, so that descriptors are read with them
	txv1beta1 "cosmossdk.io/api/cosmos/tx/v1beta1"
	"cosmossdk.io/x/tx/signing"
	"cosmossdk.io/x/tx/signing/aminojson"
)

type message struct {
	TypeURL string `json:"type_url"`
	Value   string `json:"value"`
	JSON    string `json:"json"`
}

type document struct {
	Body          string `json:"body"`
	AuthInfo      string `json:"auth_info"`
	ChainID       string `json:"chain_id"`
	AccountNumber uint64 `json:"account_number"`
	Sequence      uint64 `json:"sequence"`
	JSON          string `json:"json"`
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: amino-oracle <descriptors.bin> < samples.json")
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(must(os.ReadFile(os.Args[1])), set); err != nil {
		log.Fatal(err)
	}
	files := must(protodesc.NewFiles(set))
	types := dynamicpb.NewTypes(files)
	encoder := aminojson.NewEncoder(aminojson.EncoderOptions{FileResolver: files, TypeResolver: types})
	handler := aminojson.NewSignModeHandler(aminojson.SignModeHandlerOptions{FileResolver: files, TypeResolver: types, Encoder: &encoder})

	var samples struct {
		Messages  []message  `json:"messages"`
		Documents []document `json:"documents"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&samples); err != nil {
		log.Fatal(err)
	}
	for i := range samples.Messages {
		m := &samples.Messages[i]
		// An Any as the encoder meets it in a document: its type's name goes around the value.
		wrapped := &anypb.Any{TypeUrl: m.TypeURL, Value: must(hex.DecodeString(m.Value))}
		m.JSON = string(must(encoder.Marshal(wrapped)))
	}
	for i := range samples.Documents {
		d := &samples.Documents[i]
		body, auth := &txv1beta1.TxBody{}, &txv1beta1.AuthInfo{}
		bodyBytes, authBytes := must(hex.DecodeString(d.Body)), must(hex.DecodeString(d.AuthInfo))
		if err := proto.Unmarshal(bodyBytes, body); err != nil {
			log.Fatal(err)
		}
		if err := proto.Unmarshal(authBytes, auth); err != nil {
			log.Fatal(err)
		}
		signer := signing.SignerData{Address: "any", ChainID: d.ChainID, AccountNumber: d.AccountNumber, Sequence: d.Sequence}
		tx := signing.TxData{Body: body, AuthInfo: auth, BodyBytes: bodyBytes, AuthInfoBytes: authBytes}
		d.JSON = string(must(handler.GetSignBytes(context.Background(), signer, tx)))
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(samples); err != nil {
		log.Fatal(err)
	}
}
