"""Small valid transcripts and tables, one or more of every format."""

import json

SRT = """1
00:00:01,000 --> 00:00:02,500
Ann: Hello
there.

2
00:00:02,250 --> 00:00:03,725
Bob: <i>Oh</i>, {\\an8}hi &amp; bye!
"""
VTT = """WEBVTT - a call

NOTE
not read --

STYLE
::cue { color: red }

first
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann>Hello
there.</v>

00:00:02.250 --> 00:00:03.725
<v Bob>Oh,<00:00:03.000> <c.yellow>hi!</c><00:00:03.500>
"""
UEM = "call 1 0.0 2.5\ncall 1 3.0 5.25\n"
LINES = "Ann: Hello there.\n\nBob: Oh, hi!\n[Ann]: Well.\n"
TEXTGRID_LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "Ann - words"
        xmin = 0
        xmax = 4
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "Hello ""there"" you"
        intervals [2]:
            xmin = 1.5
            xmax = 4e0
            text = ""
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 4
        points: size = 1
        points [1]:
            number = 2
            mark = "ding"
"""
TEXTGRID_SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
4
<exists>
1
"IntervalTier"
"Ann"
0
4
1
1
2.5
"Hello there."
"""
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2500"/>
<TIME_SLOT TIME_SLOT_ID="t3"/></TIME_ORDER>
<TIER TIER_ID="B1" PARTICIPANT="Bob"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t1"
 TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>Oh, hi!</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="words"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t3">
<ANNOTATION_VALUE>Hello</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""
_WORDS = [{"word": "Hello", "start": 1.0, "end": 1.5, "score": 0.9}, {"word": "2026"}]
_SEGMENTS = [
    {"start": 1.0, "end": 2.5, "text": " Hello 2026.", "speaker": "Ann", "words": _WORDS},
    {"timestamp": [2.25, 3.725], "text": "Oh, hi!", "speaker": None},
]
WHISPER = tuple(json.dumps(content) for content in ({"segments": _SEGMENTS}, {"chunks": _SEGMENTS}, _SEGMENTS))
CSV = (
    'Start,End,Speaker,Text,note\n1,00:00:02.5,Ann,Hello there.,x\n2.25,3.725,Bob,"Oh, ""hi""!\n",\n',
    "start;end;text;speaker\n1000;2500;Hello there.;Ann\n2250;3725;Oh, hi!;Bob\n",
)
TSV = "start\tend\ttext\tspeaker\n1000\t2500\tHello there.\tAnn\n2250\t3725\tOh, hi!\tBob\n"
ROWS = (
    '{"start": 1.0, "end": 2.5, "text": "Hello there.", "speaker": "Ann"}\n{"start": "0:03", "end": 4, "text": "Oh"}\n'
)

TABLE_CSV = (
    "dialogue_id,utterance_id,audio,start,end,channel,text,speaker,label,split,valence,votes\n"
    'd1,u1,a/b.wav,0.5,1.25,0,"Hello, you",Ann,hap,train,3,hap; hap|neu\n'
    'd1,u2,,,,,,Bob,neu,dev,4.5,"{""neu"": 2, ""hap"": 0.5}"\n'
)
TABLE_ROWS = (
    '{"dialogue_id": "d1", "audio": "a.wav", "start": 0.5, "end": 2, "text": "Hi", "extra": {"valence": 3}}\n'
    '{"dialogue_id": "d1", "audio": null, "text": "Oh", "label": "hap", "channel": 1, "more": [1],'
    ' "votes.hap": 2, "votes.neu": null, "valence": 2.5}\n'
)
MANIFEST = (
    '{"dialogue_id": "d1", "utterance_id": "u1", "audio": "a.wav", "start": 0.5, "end": 2.0, "channel": 0,'
    ' "text": "Hi", "speaker": "Ann", "session": "s", "condition": null, "label": "hap", "split": "train",'
    ' "votes": {"hap": 1.5, "neu": 0.5}, "valence": 3, "extra": {"arousal": 3}}\n'
    '{"dialogue_id": "d2", "utterance_id": "u2", "text": "Oh"}\n'
)
CORPUS = '{"name": "demo", "root": "corpus", "reader": "table", "version": 1, "ranges": {"valence": [1, 5]}}\n'
LABEL_STUDIO = json.dumps(
    [
        {
            "data": {"audio": "/data/upload/1/0a1b2c3d-a.wav"},
            "annotations": [
                {
                    "was_cancelled": False,
                    "completed_by": person,
                    "ground_truth": person == 1,
                    "result": [
                        {"id": "x", "from_name": name, "value": {"start": 0.5, "end": 2, "channel": 0, key: [said]}}
                        for name, key, said in (("emotion", "labels", "hap"), ("speaker", "text", "Ann"))
                    ],
                }
                for person in (1, 2)
            ],
        }
    ]
)
MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
    '1,"So, the ""point"" person",Chandler,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\r\n'
    '2,"Oh,\nno!",Joey,sadness,negative,0,3,8,21,"00:16:21,731","00:16:16,059"\r\n'
)
IEMOCAP_TURNS = """Ses01F_impro01_M000 [001.0000-003.5000]: Where's your form?
M: Yeah.
Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me. [LAUGHTER]
"""
IEMOCAP_LABELS = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral state; Anger;\t(calm)
C-F1:\tAnger;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[1.0000 - 3.5000]\tSes01F_impro01_M000\tang\t[1.5000, 4.0000, 4.5000]
"""
CONFIG = """name: demo
work: work
labels: {ang: angry, neu: neutral, xxx: null}
corpus: {reader: table, root: examples/demo/corpus, options: {columns: {utterance_id: id}}}
encoders:
  audio: {name: "hf:examples/demo/encoders/audio", layers: all}
  text: {name: "hf:examples/demo/encoders/text", context_turns: 2}
training: &training
  epochs: 20
  learning_rate: 0.001
evaluation: {missing_shares: [0.25, 0.5]}
"""
