"""A pack on one page that a lawyer can read: what leaves, how coarse, under which article, until when, on whose signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final, Literal

from curation.residency.eligibility import Said, answer
from curation.residency.generalise import GENERALISATIONS
from curation.residency.pack import Counted, ListPack, Pack, PackHeader, Period, Rule, Wording, digest, withheld_by
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
    "role data-security": {"en": "data-security owner", "zh": "数据安全负责人"},
    "role legal": {"en": "legal", "zh": "法务"},
    "role map-partner": {"en": "qualified map partner", "zh": "具备测绘资质的图商"},
    "in_force": {"en": "Read on {day}: within its days.", "zh": "{day} 查阅:在有效期内。"},
    "expired": {"en": "**Read on {day}: expired. Nothing leaves.**", "zh": "**{day} 查阅:已到期,任何数据不得出境。**"},
    "not_yet": {"en": "**Read on {day}: not yet valid. Nothing leaves.**", "zh": "**{day} 查阅:尚未生效,任何数据不得出境。**"},
    "answer": {
        "en": "**On {day} the list answers: {said}.** An answer is no permission; rows leave under a pack of rules alone.",
        "zh": "**{day} 清单的答复:{said}。** 答复不构成许可;数据仅可依据规则包出境。",
    },
    "conditions": {"en": "Who may use the list", "zh": "适用条件"},
    "condition": {"en": "must be {wanted}; the pack states {stated}", "zh": "须为 {wanted};本包声明为 {stated}"},
    "unstated": {"en": "nothing", "zh": "未声明"},
    "listed": {"en": "Fields that the list names", "zh": "清单所列字段"},
    "no_field": {"en": "None: the list's fields were not read.", "zh": "无:未读到清单字段。"},
    "as_is": {"en": "as it is", "zh": "原样"},
    "cap": {"en": "At most {rows} rows in one release", "zh": "单次发布至多 {rows} 行"},
    "cap_per": {"en": "for each {per}", "zh": "(按 {per} 分别计)"},
    "counters": {"en": "How much in all, and what the law asks then", "zh": "累计上限及达到后的法定要求"},
    "counters_how": {
        "en": "Counted over every release ever cut, each clip, vehicle and person once. From 70 % of a limit a release warns; rows that "
        "would bring a counter to 90 % stay; at the limit nothing leaves. Only an assessment that legal signs raises a limit. "
        "Neither area covered (25 km²) nor stored faces (100,000) is counted: no coordinate can leave under any pack, and no template of a "
        "face is ever made.",
        "zh": "按历次发布累计,每段视频、每辆车、每个人只计一次。达到上限的 70% 时提示;将使计数达到 90% 的行不得出境;"
        "达到上限后任何数据不得出境。仅经法务签名的评估可提高上限。"
        "覆盖面积(25 平方公里)与存储人脸数(10 万)不设计数:任何规则包均不允许坐标出境,本系统亦不提取人脸特征。",
    },
    "counters_head": {"en": "Limit | At the limit | Why | Article", "zh": "上限 | 达到上限时 | 理由 | 条文"},
    "raised": {"en": "raised to {limit} until {day} by {number}", "zh": "经 {number} 提高至 {limit},至 {day} 止"},
    "nothing_counted": {"en": "**This pack counts nothing.**", "zh": "**本规则包不设累计上限。**"},
    "untrusted": {"en": "signed with key {key}…, which is not trusted for this role", "zh": "密钥 {key}… 不受本角色信任"},
    "bad": {"en": "signature does not fit this text", "zh": "签名与本文本不符"},
    "shared key": {"en": "signed with a key that signs for another role too", "zh": "该密钥同时为其他角色签名"},
    "denies": {
        "en": "**Not all three have signed: nothing leaves under this pack.**",
        "zh": "**三方签名不全:依据本规则包,任何数据不得出境。**",
    },
    "leaves": {"en": "What leaves", "zh": "出境内容"},
    "leaves_head": {"en": "Column | How coarse | Made of | Why | Article", "zh": "字段 | 粗化方式 | 来源字段 | 理由 | 条文"},
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
        "smallest buffer, and neither between two fixes of a track nor before its first or behind its last can the vehicle have come "
        "farther than that. A clip without a track is judged by its one fix. Which fence withheld a clip is told to no one.",
        "zh": "定位点及全程轨迹已知、采用 WGS-84,且不进入任何围栏缓冲区({buffers});定位误差不超过最小缓冲距离;"
        "轨迹相邻定位点之间、首点之前及末点之后车辆可能偏离的距离亦不超过该值。无轨迹的视频以其唯一定位点判定。不透露命中哪个围栏。",
    },
    "other": {"en": "others", "zh": "其他"},
    "never": {"en": "What never leaves as it is, and why", "zh": "绝不以原样出境的内容及理由"},
    "sources": {"en": "Sources", "zh": "法律来源"},
    "unfetched": {"en": "text not fetched", "zh": "未获取文本"},
    "digest": {"en": "Digest of the signed bytes", "zh": "签名内容摘要"},
}


_ANSWERS: Final[Mapping[Said, str]] = {
    "not yet valid": "尚未生效",
    "expired": "已到期",
    "not eligible": "不符合适用条件",
    "eligible, no listed field": "符合适用条件,但未列出任何字段",
    "eligible": "符合适用条件",
}
_COUNTED: Final[Mapping[Counted, Mapping[Language, str]]] = {
    "people": {"en": "people", "zh": "人"},
    "sensitive_people": {"en": "people with sensitive personal information", "zh": "人(敏感个人信息)"},
    "vehicles": {"en": "vehicles", "zh": "辆车"},
    "raw_hours": {"en": "hours of raw video", "zh": "小时原始视频"},
    "images": {"en": "raw images", "zh": "张原始图像"},
    "prefecture_flow_days": {"en": "days in one prefecture", "zh": "天(同一地市)"},
}
_PERIODS: Final[Mapping[Period, Mapping[Language, str]]] = {
    "calendar_year": {"en": "in a calendar year", "zh": "每自然年"},
    "lifetime": {"en": "ever", "zh": "累计"},
}


def explain(pack: Pack | ListPack, signatures_state: Sequence[RoleStanding], lang: Language = "en", *, today: date | None = None) -> str:
    """One page of Markdown about the pack, in English or Chinese.

    Args:
        pack: the rules, or a general-data list.
        signatures_state: what `signing.verify` says of them.
        lang: whose page.
        today: the day of Asia/Shanghai on which it is read; with it the page says whether the pack is in force.
    """
    says = {name: texts[lang] for name, texts in _SAYS.items()}
    lines = [*_head(pack, says, lang, today), "", *_signatures(signatures_state, says)]
    if isinstance(pack, ListPack):
        lines += ["", *_listed(pack, says, lang), "", *_never_listed(pack, says, lang)]
    else:
        lines += ["", *_leaves(pack, says, lang), "", *_conditions(pack, says, lang), "", *_counters(pack, says, lang)]
        lines += ["", *_never(pack, says, lang)]
    lines += ["", f"## {says['sources']}", "", says["marks"], ""]
    for source in pack.sources:
        proof = f"SHA-256 {source.source_sha256}" if source.source_sha256 else says["unfetched"]
        lines.append(f"- {source.id} [{source.confidence}] {_word(source.title, lang)}: {source.address} ({proof})")
    return "\n".join([*lines, "", f"{says['digest']}: `{digest(pack)}`", ""])


def _head(pack: Pack | ListPack, says: Mapping[str, str], lang: Language, today: date | None) -> list[str]:
    lines = [f"# {_word(pack.title, lang)}", ""]
    if pack.demo:
        lines += [says["demo"], ""]
    words = {"version": pack.version, "schema": pack.schema_version, "jurisdiction": pack.jurisdiction, "entity": _cell(pack.legal_entity)}
    lines += [says["head"].format(**words), says["window"].format(start=pack.valid_from, end=pack.valid_to)]
    if today is None:
        return lines
    if isinstance(pack, ListPack):
        found = answer(pack, today)
        said = _ANSWERS[found.said] if lang == "zh" else found.said
        failed = f" ({', '.join(found.failed)})" if found.failed else ""
        return [*lines, "", says["answer"].format(day=today, said=said + failed)]
    standing = "not_yet" if today < pack.valid_from else "expired" if today > pack.valid_to else "in_force"
    return [*lines, says[standing].format(day=today)]


def _signatures(signatures_state: Sequence[RoleStanding], says: Mapping[str, str]) -> list[str]:
    lines = [f"## {says['signatures']}", ""]
    for one in signatures_state:
        role = f"{one.role} ({says['role ' + one.role]})"
        lines.append(f"- {role}: " + says[one.standing].format(at=one.signed_at, key=(one.public_key or "")[:16]))
    if not signatures_state or any(one.standing != "signed" for one in signatures_state):
        lines += ["", says["denies"]]
    return lines


def _word(wording: Wording, lang: Language) -> str:
    return _cell(wording.zh if lang == "zh" else wording.en)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _basis(rule: Rule, lang: Language) -> str:
    article = _cell(rule.article) if isinstance(rule.article, str) else _word(rule.article, lang)
    return f"{rule.source}, {article} [{rule.confidence}]"


def _leaves(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['leaves']}", "", f"| {says['leaves_head']} |", "|---|---|---|---|---|"]
    for rule in pack.outputs:
        made_of = ", ".join(rule.inputs)
        lines += [f"| {rule.name} | {_coarse(rule.generalisation, lang)} | {made_of} | {_word(rule.reason, lang)} | {_basis(rule, lang)} |"]
    return [*lines, "", says["row_id"]]


def _conditions(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['only_if']}", ""]
    lines += [f"- {_word(rule.reason, lang)} `{rule.require}` ({_basis(rule, lang)})" for rule in pack.row_rules]
    k, fence = pack.combination, pack.geofence
    cell = " + ".join(k.quasi_identifiers)
    counted = says["k"].format(vehicles=k.min_vehicles, days=k.min_days, cell=cell)
    buffers = [f"{name} {buffer_m:g} m" for name, buffer_m in sorted(fence.default_buffer_m.items())]
    fenced = says["fence"].format(buffers=", ".join([*buffers, f"{says['other']} {fence.other_buffer_m:g} m"]))
    lines += [f"- {counted} ({_basis(k, lang)})", f"- {fenced} ({_basis(fence, lang)})"]
    for cap in pack.volume_caps:
        per = " " + says["cap_per"].format(per=" + ".join(cap.per)) if cap.per else ""
        lines.append(f"- {_word(cap.reason, lang)} {says['cap'].format(rows=f'{cap.max_rows:,}')}{per} ({_basis(cap, lang)})")
    return lines


def _counters(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['counters']}", ""]
    if not pack.counters:
        return [*lines, says["nothing_counted"]]
    raised = {one.counter: one for one in pack.assessments}
    lines += [says["counters_how"], "", f"| {says['counters_head']} |", "|---|---|---|---|"]
    for rule in pack.counters:
        most = f"{rule.limit:,} {_COUNTED[rule.counts][lang]} {_PERIODS[rule.period][lang]}"
        if rule.id in raised:
            one = raised[rule.id]
            most += ", " + says["raised"].format(limit=f"{one.new_limit:,}", day=one.expires, number=_cell(one.number))
        lines.append(f"| {most} | {_word(rule.at_limit, lang)} | {_word(rule.reason, lang)} | {_basis(rule, lang)} |")
    return lines


def _listed(pack: ListPack, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['conditions']}", ""]
    for condition in pack.conditions:
        stated = pack.exporter.get(condition.fact)
        words = {"wanted": " / ".join(map(str, condition.one_of)), "stated": says["unstated"] if stated is None else str(stated)}
        asked = says["condition"].format(**words)
        lines.append(f"- {_word(condition.reason, lang)} `{condition.fact}` {asked} ({_basis(condition, lang)})")
    lines += ["", f"## {says['listed']}", ""]
    for field in pack.fields:
        coarse = says["as_is"] if field.generalisation is None else _coarse(field.generalisation, lang)
        lines.append(f"- {field.name}: {coarse}. {_word(field.reason, lang)} ({_basis(field, lang)})")
    return lines if pack.fields else [*lines, says["no_field"]]


def _coarse(generalisation: str, lang: Language) -> str:
    found = GENERALISATIONS[generalisation]
    return found.says_zh if lang == "zh" else found.says_en


def _never_listed(pack: PackHeader, says: Mapping[str, str], lang: Language) -> list[str]:
    lines = [f"## {says['never']}", ""]
    for rule in pack.withhold:
        what = ", ".join((*rule.sensitivities, *rule.columns))
        lines.append(f"- **{what}**: {_word(rule.reason, lang)} ({_basis(rule, lang)})")
    return lines


def _never(pack: Pack, says: Mapping[str, str], lang: Language) -> list[str]:
    kept: dict[str, list[str]] = {rule.id: [] for rule in pack.withhold}
    for field in CLIPS:
        rule = withheld_by(pack, field)
        if rule is not None:
            kept[rule.id].append(field.name)
    lines = [f"## {says['never']}", ""]
    for rule in pack.withhold:
        what = ", ".join(rule.sensitivities) or rule.id
        lines.append(f"- **{what}**: {_word(rule.reason, lang)} {', '.join(kept[rule.id])} ({_basis(rule, lang)})")
    return lines
