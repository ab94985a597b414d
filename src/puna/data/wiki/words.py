"""Words of MediaWiki that differ by language: what an image, a category, a list of references is called.

For the paper's 20 languages and some more whose pages turn up in dumps. Sets are the union over the languages: no word
of one means something else in another. Names are compared in lower case.
"""

from __future__ import annotations

import re


def sections(titles: list[str]) -> frozenset[str]:
    """The given English section titles with what the other languages call them, in lower case."""
    named = (title.strip().lower() for title in titles)
    return frozenset(word for title in named for word in SECTIONS.get(title, {title}))


def names(text: str) -> frozenset[str]:
    """The names in a text that parts them by bars and line ends."""
    return frozenset(text.replace("\n", "|").split("|"))


FILES = names(
    """file|image|datei|bild|fichier|archivo|imagen|immagine|bestand|afbeelding|plik|grafika|ficheiro|imagem|arquivo
файл|изображение|зображення|картинка|fil|billede|soubor|fájl|kép|fișier|fişier|imagine|датотека|слика|datoteka
slika|fitxer|imatge|tiedosto|kuva|dosya|resim|bilde|ファイル|画像|文件|檔案|档案|圖像|图像|ملف|صورة|파일|그림"""
)
CATEGORIES = names(
    """category|kategorie|catégorie|categoría|categoria|categorie|kategoria|категория|категорія|kategori|kategória
категорија|kategorija|luokka|カテゴリ|分类|分類|تصنيف|분류"""
)
# Links with the prefix of another language edition stand in the page's margin, not in its text; these are none.
NO_EDITIONS = names("doi|wp|mw|voy|irc|tel|urn|hdl|git|ftp|wmf")

# Templates of pages that list the meanings of a name.
DISAMBIGUATION = names(
    """disambiguation|disambig|disamb|dab|geodis|hndis|hndisambig|hospitaldis|schooldis|numberdis|mathdab
begriffsklärung|homonymie|desambiguación|desambiguacion|disambigua|desambiguação|dp|doorverwijspagina
ujednoznacznienie|disambigr|неоднозначность|многозначность|неоднозначність|disambigg|förgrening|gren|grensida
betydelser|flertydig|flertydig side|rozcestník|egyért|egyértelműsítő|dezambiguizare|dezambig|пояснение
пояснителна страница|razdvojba|вишезначна одредница|višeznačna odrednica|вишезначност|razločitev|desambiguació
peker|pekerside|täsmennyssivu|anlam ayrımı|曖昧さ回避|aimai|消歧义|消歧義|توضيح"""
)
# What stands in parentheses behind the titles of such pages.
DISAMBIGUATED = names(
    """disambiguation|begriffsklärung|homonymie|desambiguación|disambigua|desambiguação|doorverwijspagina
ujednoznacznienie|значения|значення|olika betydelser|flertydig|rozcestník|egyértelműsítő lap|dezambiguizare
пояснение|razdvojba|вишезначна одредница|razločitev|desambiguació|andre betydninger|täsmennyssivu|anlam ayrımı
曖昧さ回避|消歧义|توضيح"""
)
SECTIONS = {
    "references": names(
        """references|references and notes|notes and references|notes & references|footnotes|citations|reference
works cited|einzelnachweise|einzelnachweise und anmerkungen|anmerkungen|fußnoten|belege|références
notes et références|referencias|notas y referencias|note|referenties|voetnoten|bronnen, noten en/of referenties
noten|przypisy|referências|примечания|сноски|примітки|виноски|referenser|fotnoter|referencer|fodnoter|jegyzetek
referințe|note de subsol|бележки|източници и бележки|бележки и източници|референце|sklici|opombe in sklici
referències|notes i referències|viitteet|kaynakça|脚注|出典|注释|參考文獻|参考文献|مراجع|المراجع"""
    ),
    "notes": names(
        """notes|explanatory notes|notes and citations|end notes|endnotes|note|notas|noten|notizen|uwagi|anotações
комментарии|коментарі|noter|anmärkningar|poznámky|megjegyzések|note explicative|пояснения|bilješke|напомене
opombe|huomautukset|notlar|注釈|注解|ملاحظات"""
    ),
    "external links": names(
        """external links|external link|weblinks|liens externes|lien externe|enlaces externos|collegamenti esterni
altri progetti|externe links|externe link|linki zewnętrzne|ligações externas|ссылки|посилання|externa länkar
eksterne henvisninger|eksterne links|eksterne lenker|externí odkazy|külső hivatkozások|további információk
legături externe|външни препратки|vanjske poveznice|спољашње везе|spoljašnje veze|zunanje povezave
enllaços externs|aiheesta muualla|dış bağlantılar|外部リンク|外部链接|外部連結|وصلات خارجية"""
    ),
    "see also": names(
        """see also|siehe auch|voir aussi|articles connexes|véase también|voci correlate|zie ook|zobacz też|ver também
см. также|див. також|дивіться також|se även|se också|se også|související články|viz též|lásd még
kapcsolódó szócikkek|vezi și|vezi şi|вижте също|povezani članci|vidi još|види још|такође погледајте|glej tudi
vegeu també|katso myös|ayrıca bakınız|関連項目|参见|參見|انظر أيضا|انظر أيضًا|related pages"""
    ),
    "further reading": names(
        """further reading|weiterführende literatur|literatur|bibliographie|lecturas adicionales|verder lezen|literatuur
leitura adicional|literatura dodatkowa|литература|література|vidare läsning|litteratur|literatura|irodalom
ajánlott irodalom|lectură suplimentară|dodatno čitanje|додатна литература|nadaljnje branje|lectures addicionals
kirjallisuutta|konuyla ilgili yayınlar|関連書籍|延伸阅读|延伸閱讀|كتب|other websites"""
    ),
    "bibliography": names(
        """bibliography|selected bibliography|literatur|bibliographie|bibliografía|bibliografia|literatuur|literatura
литература|література|библиография|бібліографія|litteratur|bibliografi|bibliografie|irodalom|библиографија
литература и извори|bibliografija|kirjallisuus|参考書籍|参考书目"""
    ),
    "sources": names(
        """sources|quellen|fuentes|fonti|bronnen|źródła|fontes|источники|джерела|källor|kilder|zdroje|források|hivatkozások
surse|източници|izvori|извори|viri|fonts|lähteet|kaynaklar|資料|来源|المصادر"""
    ),
}

# Tags, by what becomes of them.
GONE = names(
    """ref|references|gallery|timeline|imagemap|score|hiero|graph|templatedata|templatestyles|inputbox|categorytree
mapframe|maplink|section|includeonly|s|del|strike|rt|rp|indicator|style|script"""
)
BLOCKS = names("p|div|blockquote|center|poem|ul|ol|dl|h1|h2|h3|h4|h5|h6")
CODE = names("pre|source|syntaxhighlight")
FORMULAS = names("math|chem|ce")
HIDDEN = re.compile(
    r"display\s*:\s*none|\b(noprint|navbox|metadata|mbox|infobox|thumb|hatnote|dablink)\b", re.IGNORECASE
)
EDITION = re.compile(r"[a-z]{2,3}(-[a-z]{2,8})*|simple")
BROKEN = re.compile(
    r"</ref\b[^<>]*>|</?(?:references|nowiki|noinclude|includeonly|onlyinclude|div|span|small|big|center|font|table|tr|td|th|tbody|"
    r"caption|b|i|u|s|p|sub|sup|em|strong|tt|code|cite|blockquote|gallery|poem|math|pre|source|br|hr|li|ul|ol|dl|dd|dt|"
    r"abbr|var|kbd|del|ins|nobr|noprint|section|timeline|imagemap)\b[^<>]*/?>",
    re.IGNORECASE,
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
