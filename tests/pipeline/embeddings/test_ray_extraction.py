"""Chunks for a cluster: the longest first, and smaller towards the end."""

from hypothesis import given
from hypothesis import strategies as st

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.pipeline.common.ray_cluster import Place, Pool
from lpgnet.pipeline.config import FeaturesConfig
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.extraction import cost
from lpgnet.pipeline.embeddings.plan import Request, Words
from lpgnet.pipeline.embeddings.ray_extraction import PARTS_LEFT, Work, _chunks, cut

RATE = 16_000


def requests_of(seconds: list[float]) -> list[Request]:
    return [
        Request(str(index), index.to_bytes(16, "big"), Segment("a.wav", 0, round(length * RATE), 0, RATE))
        for index, length in enumerate(seconds)
    ]


@given(st.lists(st.floats(0.1, 40), max_size=300), st.integers(1, 20), st.floats(0.1, 60), st.floats(1, 10))
def test_chunks_shrink_towards_the_end(seconds: list[float], encoders: int, least: float, factor: float) -> None:
    requests, most = requests_of(seconds), least * factor
    chunks = cut(requests, encoders=encoders, least=least, most=most)
    flat = [request for chunk in chunks for request in chunk]
    assert sorted(flat, key=lambda request: int(request.utterance_id)) == requests
    assert [cost(request) for request in flat] == sorted(map(cost, requests), reverse=True)
    left = sum(map(cost, requests))
    for chunk in chunks:
        share = min(most, max(least, left / (PARTS_LEFT * encoders)))
        filled = sum(map(cost, chunk))
        assert filled - cost(chunk[-1]) < share + 1e-6, "no larger than its share, but for its last request"
        assert chunk is chunks[-1] or filled >= share - 1e-6
        left -= filled


def test_chunks_by_hand() -> None:
    chunks = cut(requests_of([1, 4, 2, 1, 8]), encoders=1, least=2, most=6)
    assert [[cost(request) for request in chunk] for chunk in chunks] == [[8], [4], [2], [1, 1]]


@given(st.lists(st.integers(1, 100_000), max_size=30), st.lists(st.floats(0.1, 200), max_size=30), st.integers(1, 4))
def test_chunks_come_encoder_by_encoder_each_cut_as_if_alone(
    lengths: list[int], seconds: list[float], encoders: int
) -> None:
    words = [Request(str(number), bytes(16), Words("a" * length)) for number, length in enumerate(lengths)]
    parts, specs = (words, requests_of(seconds)), (spec("text"), spec("audio"))
    pool = Pool(encoders, 1, 0.0, {"node": encoders}, 1)
    features, place = FeaturesConfig(), Place("/", None)
    chunks = _chunks(Work(specs, features, pool, place), parts)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    alone = [_chunks(Work((one,), features, pool, place), (part,)) for one, part in zip(specs, parts, strict=True)]
    assert [(chunk.part, chunk.requests) for chunk in chunks] == [
        (part, chunk.requests) for part, chunks in enumerate(alone) for chunk in chunks
    ]


def spec(modality: str) -> EncoderSpec:
    return EncoderSpec(modality, modality, "all", "mean", "fp32", None, None, False, modality)
