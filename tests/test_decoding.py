"""Many requests in a batch get what each gets alone from the reference model, in the contract's order of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made_model
from puna.errors import InputError
from puna.generate.decode import continuation, to_text
from puna.generate.engine import Engine
from puna.generate.packed import Packed, pack
from puna.generate.request import End, Event, Prompt, Request, Token
from puna.generate.sampling import Sampling
from puna.generate.scoring import score
from puna.model.llama import Llama
from puna.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4  # nats, of a log-probability
GAP = 1e-3  # of the two best logits, below which greedy texts may part
GREEDY = Sampling(temperature=0)
CONTEXT = 64


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return made_model.tokenizer()


@pytest.fixture(scope="module")
def model() -> Llama:
    return made_model.llama()


@pytest.fixture(scope="module")
def packed(model: Llama) -> Packed:
    return pack(model)


def done(engine: Engine, *requests: Request, every: int = 0) -> dict[int, list[Event]]:
    """The events of each request by its handle; `every`: steps between one being submitted and the next."""
    found: dict[int, list[Event]] = {}
    left = list(requests)
    while left or engine.busy:
        if left:
            found[engine.submit(left.pop(0))] = []
        for _ in range(every if left else 1):
            for event in engine.step():
                found[event.handle].append(event)
    return found


def ids(events: Sequence[Event], sample: int = 0) -> list[int]:
    return [event.id for event in events if isinstance(event, Token) and event.sample == sample]


def text(events: Sequence[Event], sample: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Token | End) and event.sample == sample)


def end(events: Sequence[Event], sample: int = 0) -> End:
    (found,) = [event for event in events if isinstance(event, End) and event.sample == sample]
    return found


@torch.no_grad()
def gap(model: Llama, window: Sequence[int]) -> float:
    """Between the two best logits behind `window`."""
    best, second = model.logits(torch.tensor([list(window)]))[0, -1].topk(2).values.tolist()
    return float(best - second)


def assert_same(model: Llama, prompt: Sequence[int], found: Sequence[int], expected: Sequence[int]) -> None:
    """The same greedy ids up to the first step whose two best logits are nearly equal; the message shows the gap."""
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=False)):
        if mine != theirs:
            least = gap(model, [*prompt, *expected[:step]])
            assert least < GAP, f"step {step}: {mine}, not {theirs}, although the best logits are {least:.2g} apart"
            return
    assert len(found) == len(expected)


requests = st.builds(
    Request,
    prompt=st.lists(st.integers(0, 289), min_size=1, max_size=60).map(tuple),
    max_tokens=st.integers(1, 12),
    sampling=st.builds(
        Sampling,
        temperature=st.sampled_from([0, 0.7, 1.3]),
        top_p=st.sampled_from([0.8, 1]),
        top_k=st.sampled_from([0, 5]),
        min_p=st.sampled_from([0, 0.05]),
        repetition_penalty=st.sampled_from([1, 1.3]),
        seed=st.integers(0, 4),
    ),
    n=st.integers(1, 3),
    slide=st.booleans(),
)


@given(
    asked=st.lists(requests, min_size=1, max_size=4),
    slots=st.integers(1, 4),
    chunk=st.sampled_from([3, 16, 512]),
    every=st.integers(0, 3),
)
@settings(deadline=None, max_examples=25)
def test_a_request_gets_in_any_batch_what_it_gets_alone(
    model: Llama, packed: Packed, tokenizer: Tokenizer, asked: list[Request], slots: int, chunk: int, every: int
) -> None:
    engine = Engine(packed, tokenizer, slots=slots, chunk=chunk)
    found = done(engine, *asked, every=every)
    for request, events in zip(asked, found.values(), strict=True):
        for sample in range(request.n):
            sampling = request.sampling.of_sample(sample)
            room = request.max_tokens if request.slide else CONTEXT + 1 - len(request.prompt)
            tokens = min(request.max_tokens, room)
            alone = list(continuation(model, request.prompt, tokens=tokens, eos=2, sampling=sampling))
            assert_same(model, request.prompt, ids(events, sample), alone)
    assert engine.counts.running == engine.counts.waiting == 0


def test_log_probabilities_are_those_of_the_reference_model(model: Llama, packed: Packed, tokenizer: Tokenizer) -> None:
    prompt = tuple(tokenizer.begin("the cat and the"))
    request = Request(prompt, 12, GREEDY, logprobs=3, prompt_logprobs=2, ends=())
    beside = [Request(tuple(tokenizer.begin(word)), 20, n=2) for word in ("a", "the bat and", "the cat and the hat")]
    events = next(iter(done(Engine(packed, tokenizer, slots=3, chunk=4), request, *beside).values()))
    assert isinstance(events[0], Prompt)
    assert isinstance(events[-1], End)
    tokens = [event for event in events if isinstance(event, Token)]
    window = [*prompt, *(token.id for token in tokens)]
    with torch.no_grad():
        logprobs = model.logits(torch.tensor([window]))[0].log_softmax(-1)
    assert [token.id for token in events[0].tokens] == list(prompt[1:])
    assert b"".join(token.bytes for token in events[0].tokens) == b"the cat and the"
    for place, token in enumerate([*events[0].tokens, *tokens]):
        expected = logprobs[place]
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=TOLERANCE)
        assert len(token.top) == (2 if place < len(prompt) - 1 else 3)
        values = [value for _, value in token.top]
        assert values == pytest.approx(expected.topk(len(values)).values.tolist(), abs=TOLERANCE)
        assert values == [pytest.approx(float(expected[number]), abs=TOLERANCE) for number, _ in token.top]


@given(word=st.text(alphabet="aé東\n ", min_size=1, max_size=3), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_text_is_released_whole_and_ends_before_its_stop(
    model: Llama, packed: Packed, tokenizer: Tokenizer, word: str, seed: int
) -> None:
    sampling = Sampling(temperature=1, top_p=1, seed=seed)
    prompt = tuple(tokenizer.begin("the"))
    events = next(iter(done(Engine(packed, tokenizer), Request(prompt, 50, sampling, stop=(word,))).values()))
    alone = continuation(model, prompt, tokens=50, eos=2, sampling=sampling)
    assert text(events) == "".join(to_text(alone, tokenizer, [word]))
    stopped = word in tokenizer.decode(ids(events))
    assert end(events).reason == ("stop" if stopped or len(ids(events)) < 50 else "length")


def test_what_prompts_have_in_common_is_read_once(packed: Packed, tokenizer: Tokenizer) -> None:
    shots = tokenizer.begin("the cat and the hat. " * 2)
    questions = [(*shots, *tokenizer.encode(word)) for word in ("cat", "the bat", "hat")]
    assert len(shots) > 16
    engine = Engine(packed, tokenizer, slots=4, chunk=8)
    requests = [Request(question, 3, GREEDY, n=2, ends=()) for question in questions]
    together = done(engine, *requests)
    read = engine.counts.prompt_tokens - engine.counts.shared_tokens
    # The first is read whole; of the others what is their own; of second samples the last token.
    assert read == len(shots) + sum(len(question) - len(shots) for question in questions) + len(questions)
    for request, events in zip(requests, together.values(), strict=True):
        (alone,) = done(Engine(packed, tokenizer), dataclasses.replace(request, n=1)).values()
        assert ids(events) == ids(events, 1) == ids(alone)


def test_a_chat_goes_on_where_it_was(packed: Packed, tokenizer: Tokenizer) -> None:
    engine = Engine(packed, tokenizer, slots=2)
    first = tuple(tokenizer.begin("the cat"))
    (events,) = done(engine, Request(first, 6, GREEDY, ends=())).values()
    before = engine.counts
    done(engine, Request((*first, *ids(events), 7, 8), 1, GREEDY))
    assert engine.counts.shared_tokens - before.shared_tokens == len(first) + 5  # the last drawn was never read


def test_events_come_in_the_order_of_the_contract(packed: Packed, tokenizer: Tokenizer) -> None:
    request = Request(tuple(tokenizer.begin("the")), 5, Sampling(seed=3), n=2, prompt_logprobs=0, ends=())
    (events,) = done(Engine(packed, tokenizer), request).values()
    assert [type(event) for event in events if not isinstance(event, Prompt) and event.sample == 1] == [Token] * 5 + [
        End
    ]
    assert sum(isinstance(event, Prompt) for event in events) == 1
    assert not any(
        isinstance(event, Token) for event in events[: events.index(next(e for e in events if isinstance(e, Prompt)))]
    )


def test_a_full_context_ends_a_text(packed: Packed, tokenizer: Tokenizer) -> None:
    engine = Engine(packed, tokenizer, context=10)
    request = Request((1, 70, 71), 100, GREEDY, ends=())
    (events,) = done(engine, request).values()
    assert (len(ids(events)), end(events).reason) == (8, "length")
    with pytest.raises(InputError, match="11 tokens, but the context holds 10"):
        engine.submit(Request((1,) * 11))


def test_cancelled_and_empty_requests_end(packed: Packed, tokenizer: Tokenizer) -> None:
    engine = Engine(packed, tokenizer, slots=1)
    first, second = engine.submit(Request((1, 2), 50, ends=())), engine.submit(Request((1, 3), 3, n=2, ends=()))
    engine.step()
    assert [event.reason for event in map(_as_end, engine.cancel(first))] == ["cancelled"]
    assert engine.cancel(first) == engine.cancel(99) == []
    engine.step()
    assert {event.sample for event in map(_as_end, engine.cancel(second))} == {0, 1}
    assert not engine.busy
    assert engine.slots.free == 1
    (events,) = done(engine, Request((1, 2), 0, n=2)).values()
    assert [event.reason for event in map(_as_end, events)] == ["length", "length"]
    (events,) = done(engine, Request((1, 2), 0, n=2, prompt_logprobs=0)).values()
    assert [type(event) for event in events].count(Prompt) == 1
    assert len(events) == 3


def _as_end(event: Event) -> End:
    assert isinstance(event, End)
    return event


def test_scores_that_are_no_numbers_end_their_request_alone(tokenizer: Tokenizer) -> None:
    model = made_model.llama()
    with torch.no_grad():
        model.tok_embeddings.weight[77] = torch.nan
    engine = Engine(pack(model), tokenizer, slots=3)
    good, bad = Request((1, 70, 71), 5, GREEDY, ends=()), Request((1, 77, 71), 5, GREEDY, ends=())
    scored = dataclasses.replace(bad, prompt_logprobs=1)
    found = list(done(engine, good, bad, scored).values())
    assert [end(events).reason for events in found] == ["length", "error", "error"]
    assert "not a finite number" in end(found[1]).error
    again = list(done(engine, bad, good).values())
    assert ids(again[1]) == ids(found[0])


def test_a_prompt_is_read_in_chunks_while_others_go_on(packed: Packed, tokenizer: Tokenizer) -> None:
    engine = Engine(packed, tokenizer, slots=2, chunk=10)
    first = engine.submit(Request((1, 5), 20, GREEDY, ends=()))
    engine.step()
    second = engine.submit(Request(tuple(range(3, 48)), 5, GREEDY, ends=()))
    seen = [[event.handle for event in engine.step()] for _ in range(5)]
    assert seen == [[first]] * 4 + [[first, second]]


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": ()}, "no token"),
        ({"max_tokens": -1}, "max_tokens = -1"),
        ({"n": 0}, "n = 0"),
        ({"logprobs": -1}, "logprobs = -1"),
        ({"scored_from": 0}, "scored_from = 0"),
        ({"stop": ("a", "")}, "stop string"),
        ({"prompt": (1, 290)}, "id 290"),
        ({"prompt": (-1,)}, "id -1"),
        ({"logprobs": 291}, "290 pieces"),
        ({"slide": True, "prompt_logprobs": 1}, "slides"),
        ({"others": (290,)}, "ids are 0 to 289"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    packed: Packed, tokenizer: Tokenizer, values: Mapping[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Engine(packed, tokenizer).submit(Request(**{"prompt": (1,), **values}))  # type: ignore[arg-type]


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_scores_are_those_of_each_text_alone(model: Llama, packed: Packed, tokenizer: Tokenizer, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    shared = torch.randint(0, 290, (20,), generator=chance).tolist()
    pairs = []
    for _ in range(7):
        sizes = torch.randint(0, 6, (3,), generator=chance).tolist()
        own, answer = (torch.randint(0, 290, (size,), generator=chance).tolist() for size in sizes[:2])
        pairs.append(([*(shared if sizes[2] > 1 else [1]), *own], answer))
    with torch.no_grad():
        likely = int(model.logits(torch.tensor([shared]))[0, -1].argmax())
    # These differ in their last token alone, some in one of one and some in one of three, and are read once.
    pairs += [(shared, [last]) for last in (3, 9, 3)] + [(shared, [11, 12, last]) for last in (4, likely)]
    pairs.append((shared, [likely]))
    advanced: list[int] = []
    found = score(Engine(packed, tokenizer, slots=3, chunk=16), pairs, advance=lambda: advanced.append(1))
    assert len(advanced) == len(pairs)
    for (context, answer), got in zip(pairs, found, strict=True):
        with torch.no_grad():
            logprobs = model.logits(torch.tensor([[*context, *answer]]))[0].log_softmax(-1)
        places = range(len(context) - 1, len(context) + len(answer) - 1)
        expected = sum(float(logprobs[place, number]) for place, number in zip(places, answer, strict=True))
        assert got.logprob == pytest.approx(expected, abs=TOLERANCE * max(1, len(answer)))
        assert got.is_greedy == all(int(logprobs[p].argmax()) == n for p, n in zip(places, answer, strict=True))
    assert found[-1].is_greedy


def test_texts_that_differ_in_their_last_token_are_read_once(packed: Packed, tokenizer: Tokenizer) -> None:
    engine = Engine(packed, tokenizer, slots=2)
    context = list(range(1, 40))
    score(engine, [(context, [last]) for last in (5, 6, 7, 8)])
    assert engine.counts.prompt_tokens == len(context) + 1


def test_a_text_without_a_context_cannot_be_scored(packed: Packed, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="text 1 has no context"):
        score(Engine(packed, tokenizer), [([1], [5]), ([], [5])])
