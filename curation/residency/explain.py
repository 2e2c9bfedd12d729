"""A pack on one page that a lawyer can read: what leaves, how coarse, under which article, until when, on whose signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import Pack, Rule, Wording, digest, withheld_by
from curation.residency.signing import RoleStanding
from curation.schema import CLIPS

Language = Literal["en", "zh"]

_SAYS: Final[Mapping[str, Mapping[Language, str]]] = {
    "demo": {"en": "**Demonstration only. This pack is no law.**", "zh": "**仅供演示,本规则包不具法律效力。**"},
    "head": {
        "en": "Version {version}, schema {schema}. Jurisdiction {jurisdiction}. Exporting entity: {entity}.",
        "zh": "版本 {version},数据结构 {schema}。法域 {jurisdiction}。出境主体:{entity}。",
    },
    "window": {
        "en": "Valid from {start} to {end}, both days included (Asia/Shanghai). Outside them nothing leaves.",
        "zh": "有效期 {start} 至 {end}(含首尾两日,北京时间)。有效期外任何数据不得出境。",
    },
    "marks": {
        "en": "Marks: R read at the source, R2 read second-hand, M from memory, U unsure or inferred. A mark is no permission.",
        "zh": "标记:R 已读原文,R2 转引,M 凭记忆,U 不确定或推断。标记不构成许可。",
    },
    "signatures": {"en": "Signatures", "zh": "签名"},
    "signed": {"en": "signed {at} with key {key}…", "zh": "已于 {at} 用密钥 {key}… 签名"},
    "missing": {"en": "not signed", "zh": "未签名"},
    "untrusted": {"en": "signed with key {key}…, which is not trusted for this role", "zh": "密钥 {key}… 不受本角色信任"},
    "bad": {"en": "signature does not fit this text", "zh": "签名与本文本不符"},
    "shared key": {"en": "signed with a key that signs for another role too", "zh": "该密钥同时为其他角色签名"},
    "denies": {
        "en": "**Not all three have signed: nothing leaves under this pack.**",
        "zh": "**三方签名不全:依据本规则包,任何数据不得出境。**",
    },
    "leaves": {"en": "What leaves", "zh": "出境内容"},
    "leaves_head": {"en": "Column | How coarse | Made of | Article", "zh": "字段 | 粗化方式 | 来源字段 | 条文"},
    "row_id": {
        "en": "Besides these, each row carries a random id that is drawn once and links to nothing abroad.",
        "zh": "此外每行带有一个一次性随机编号,在境外无法关联任何信息。",
    },
    "only_if": {"en": "Only rows for which all of this holds", "zh": "仅限满足下列全部条件的行"},
    "k": {
        "en": "At least {vehicles} vehicles and {days} days share the row's {cell}, together with what is still published.",
        "zh": "连同仍在发布的数据,至少 {vehicles} 辆车、{days} 天具有相同的 {cell}。",
    },
    "fence": {
        "en": "The fix and the whole track are known, in WGS-84, and clear of every fence ({buffers}); the error is no larger than the "
        "smallest buffer. Which fence withheld a clip is told to no one.",
        "zh": "定位点及全程轨迹已知、采用 WGS-84,且不进入任何围栏缓冲区({buffers});定位误差不超过最小缓冲距离。不透露命中哪个围栏。",
    },
    "other": {"en": "others", "zh": "其他"},
    "never": {"en": "What never leaves as it is, and why", "zh": "绝不以原样出境的内容及理由"},
    "sources": {"en": "Sources", "zh": "法律来源"},
    "unfetched": {"en": "text not fetched", "zh": "未获取文本"},
    "digest": {"en": "Digest of the signed bytes", "zh": "签名内容摘要"},
}


def explain(pack: Pack, signatures_state: Sequence[RoleStanding], lang: Language = "en") -> str:
    """One page of Markdown about the pack, in English or Chinese.

    Args:
        pack: the rules.
        signatures_state: what `signing.verify` says of them.
        lang: whose page.
    """
    says = {name: texts[lang] for name, texts in _SAYS.items()}
    lines = [f"# {_word(pack.title, lang)}", ""]
    if pack.demo:
        lines += [says["demo"], ""]
    head = says["head"].format(
        version=pack.version, schema=pack.schema_version, jurisdiction=pack.jurisdiction, entity=_cell(pack.legal_entity)
    )
    lines += [head, says["window"].format(start=pack.valid_from, end=pack.valid_to), "", f"## {says['signatures']}", ""]
    for one in signatures_state:
        lines.append(f"- {one.role}: " + says[one.standing].format(at=one.signed_at, key=(one.public_key or "")[:16]))
    if not signatures_state or any(one.standing != "signed" for one in signatures_state):
        lines += ["", says["denies"]]
    lines += ["", *_leaves(pack, says, lang), "", *_conditions(pack, says, lang), "", *_never(pack, says, lang), ""]
    lines += [f"## {says['sources']}", "", says["marks"], ""]
    for source in pack.sources:
        proof = f"SHA-256 {source.source_sha256}" if source.source_sha256 else says["unfetched"]
        lines.append(f"- {source.id} [{source.confidence}] {_word(source.title, lang)}: {source.address} ({proof})")
    return "\n".join([*lines, "", f"{says['digest']}: `{digest(pack)}`", ""])


def _word(wording: Wording, lang: Language) -> str:
    return _cell(wording.zh if lang == "zh" else wording.en)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _basis(rule: Rule) -> str:
    return f"{rule.source}, {_cell(rule.article)} [{rule.confidence}]"


def _leaves(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['leaves']}", "", f"| {says['leaves_head']} |", "|---|---|---|---|"]
    for rule in pack.outputs:
        generalisation = GENERALISATIONS[rule.generalisation]
        coarse = generalisation.says_zh if lang == "zh" else generalisation.says_en
        lines.append(f"| {rule.name} | {coarse} | {', '.join(rule.inputs)} | {_basis(rule)} |")
    return [*lines, "", says["row_id"]]


def _conditions(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['only_if']}", ""]
    lines += [f"- {_word(rule.reason, lang)} `{rule.require}` ({_basis(rule)})" for rule in pack.row_rules]
    k, fence = pack.combination, pack.geofence
    cell = " + ".join(k.quasi_identifiers)
    counted = says["k"].format(vehicles=k.min_vehicles, days=k.min_days, cell=cell)
    buffers = [f"{name} {buffer_m:g} m" for name, buffer_m in sorted(fence.default_buffer_m.items())]
    fenced = says["fence"].format(buffers=", ".join([*buffers, f"{says['other']} {fence.other_buffer_m:g} m"]))
    return [*lines, f"- {counted} ({_basis(k)})", f"- {fenced} ({_basis(fence)})"]


def _never(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    kept: dict[str, list[str]] = {rule.id: [] for rule in pack.withhold}
    for field in CLIPS:
        rule = withheld_by(pack, field)
        if rule is not None:
            kept[rule.id].append(field.name)
    lines = [f"## {says['never']}", ""]
    for rule in pack.withhold:
        what = ", ".join(rule.sensitivities) or rule.id
        lines.append(f"- **{what}**: {_word(rule.reason, lang)} {', '.join(kept[rule.id])} ({_basis(rule)})")
    return lines
