"""The four stages: recordings to manifest, manifest to embeddings, embeddings to model, model to emotion timeline."""
