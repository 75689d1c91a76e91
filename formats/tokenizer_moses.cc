#include "formats/tokenizer_moses.h"

#include <algorithm>
#include <set>

#include "formats/tokenizer_moses_chars.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

using Text = std::u32string;
using View = std::u32string_view;

bool Has(const Text& text, View what) {
  return text.find(what) != Text::npos;
}

// Every occurrence, left to right, none overlapping.
void Replace(Text* text, View from, View to) {
  size_t at = text->find(from);
  if (at == Text::npos) return;
  Text out;
  out.reserve(text->size() + to.size());
  size_t begin = 0;
  for (; at != Text::npos; at = text->find(from, begin)) {
    out.append(*text, begin, at - begin);
    out.append(to);
    begin = at + from.size();
  }
  out.append(*text, begin, Text::npos);
  *text = std::move(out);
}

void SqueezeSpaces(Text* text) {
  text->erase(std::unique(text->begin(), text->end(), [](char32_t a, char32_t b) { return a == ' ' && b == ' '; }),
              text->end());
}

// Replaces three characters a, middle, b (a and b as the tests say) by a, `with`, b; after a match the search goes on
// behind b.
template <class A, class B>
void ReplaceBetween(Text* text, char32_t middle, A is_a, B is_b, View with) {
  if (text->find(middle) == Text::npos) return;
  Text out;
  out.reserve(text->size() + 16);
  for (size_t i = 0; i < text->size();) {
    if (i + 2 < text->size() && (*text)[i + 1] == middle && is_a((*text)[i]) && is_b((*text)[i + 2])) {
      out.push_back((*text)[i]);
      out.append(with);
      out.push_back((*text)[i + 2]);
      i += 3;
    } else {
      out.push_back((*text)[i++]);
    }
  }
  *text = std::move(out);
}

// The punctuation normalizer, English, Penn quotes.
void NormalizePunctuation(Text* t) {
  Replace(t, U"\r", U"");
  Replace(t, U"(", U" (");
  Replace(t, U")", U") ");
  SqueezeSpaces(t);
  for (char32_t mark : View(U".!:?;,")) {
    const char32_t from[] = {')', ' ', mark}, to[] = {')', mark};
    Replace(t, View(from, 3), View(to, 2));
  }
  Replace(t, U"( ", U"(");
  Replace(t, U" )", U")");
  ReplaceBetween(
      t, ' ', IsDecimalDigit, [](char32_t c) { return c == '%'; }, U"");
  Replace(t, U" :", U":");
  Replace(t, U" ;", U";");
  Replace(t, U"`", U"'");
  Replace(t, U"''", U" \" ");
  for (char32_t& c : *t)
    if (c == 0x201E || c == 0x201C || c == 0x201D) c = '"';
  for (char32_t& c : *t)
    if (c == 0x2013) c = '-';
  Replace(t, U"\u2014", U" - ");
  SqueezeSpaces(t);
  for (char32_t& c : *t)
    if (c == 0xB4 || c == 0x2018 || c == 0x201A || c == 0x2019) c = '\'';
  Replace(t, U"''", U"\"");
  Replace(t, U"\u2026", U"...");
  for (View from : {View(U"\u00A0\u00AB\u00A0"), View(U"\u00AB\u00A0"), View(U"\u00AB"), View(U"\u00A0\u00BB\u00A0"),
                    View(U"\u00A0\u00BB"), View(U"\u00BB")})
    Replace(t, from, U"\"");
  if (t->find(U'\u00A0') != Text::npos) {
    Replace(t, U"\u00A0%", U"%");
    Replace(t, U"n\u00BA\u00A0", U"n\u00BA ");
    Replace(t, U"\u00A0:", U":");
    Replace(t, U"\u00A0\u00BAC", U" \u00BAC");
    Replace(t, U"\u00A0cm", U" cm");
    Replace(t, U"\u00A0?", U"?");
    Replace(t, U"\u00A0!", U"!");
    Replace(t, U"\u00A0;", U";");
    Replace(t, U",\u00A0", U", ");
  }
  SqueezeSpaces(t);
  if (Has(*t, U"\"")) {  // a quotation mark goes behind the commas and full stops that follow it
    Text out;
    for (size_t i = 0; i < t->size();) {
      size_t end = i + 1;
      if ((*t)[i] == '"')
        while (end < t->size() && ((*t)[end] == ',' || (*t)[end] == '.')) ++end;
      out.append(*t, (*t)[i] == '"' ? i + 1 : i, end - i - ((*t)[i] == '"' ? 1 : 0));
      if ((*t)[i] == '"') out.push_back('"');
      i = end;
    }
    *t = std::move(out);
  }
  ReplaceBetween(t, 0xA0, IsDecimalDigit, IsDecimalDigit, U".");
  *t = Text(StripPython(*t));
}

// White space to single spaces, control characters away.
void CleanSpaces(Text* t) {
  size_t out = 0;
  bool previous_space = false;
  for (char32_t c : *t) {
    const bool space = IsPythonSpace(c);
    if (space && previous_space) continue;
    previous_space = space;
    if (!space && c < 0x20) continue;
    (*t)[out++] = space ? U' ' : c;
  }
  t->resize(out);
}

constexpr View kProtected = U"THISISPROTECTED";

// Case folded as Python's re.IGNORECASE does for the letters of special tokens.
char32_t Fold(char32_t c) {
  return c >= 'A' && c <= 'Z' ? c + 32 : c == 0x17F ? U's' : c == 0x212A ? U'k' : c;
}

// Replaces the protected words, in whatever case they stand, by marks that look like words; gives them in the order in
// which they were found.
std::vector<Text> Protect(Text* t, const std::vector<std::string>& words) {
  std::vector<Text> found;
  if (words.empty()) return found;
  for (const std::string& word : words) {
    const Text want = ToCodePoints(word);
    if (want.empty()) continue;
    for (size_t i = 0; i + want.size() <= t->size();) {
      bool same = true;
      for (size_t k = 0; same && k < want.size(); ++k) same = Fold((*t)[i + k]) == Fold(want[k]);
      if (same) found.push_back(t->substr(i, want.size()));
      i += same ? want.size() : 1;
    }
  }
  std::set<Text> done;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!done.insert(found[i]).second) continue;
    std::string number = std::to_string(i);
    Replace(t, found[i],
            Text(kProtected) + ToCodePoints(std::string(number.size() < 3 ? 3 - number.size() : 0, '0') + number));
  }
  return found;
}
void Unprotect(Text* t, const std::vector<Text>& found) {
  for (size_t i = 0; i < found.size() && Has(*t, kProtected); ++i) {
    std::string number = std::to_string(i);
    Replace(t, Text(kProtected) + ToCodePoints(std::string(number.size() < 3 ? 3 - number.size() : 0, '0') + number),
            found[i]);
  }
}

void PadSymbols(Text* t) {
  Text out;
  out.reserve(t->size() + t->size() / 4);
  for (char32_t c : *t) {
    const bool plain =
        moses::IsAlnum(c) || IsPythonSpace(c) || c == '.' || c == '\'' || c == '`' || c == ',' || c == '-';
    if (plain) {
      out.push_back(c);
    } else {
      out.push_back(' ');
      out.push_back(c);
      out.push_back(' ');
    }
  }
  *t = std::move(out);
}

void SplitHyphens(Text* t) {
  if (t->find(U'-') == Text::npos) return;
  Text out;
  for (size_t i = 0; i < t->size(); ++i) {
    const bool between =
        (*t)[i] == '-' && i > 0 && i + 1 < t->size() && moses::IsAlnum((*t)[i - 1]) && moses::IsAlnum((*t)[i + 1]);
    if (between)
      out += U" @-@ ";
    else
      out.push_back((*t)[i]);
  }
  *t = std::move(out);
}

// A run of k > 1 full stops becomes the word DOT...DOTMULTI of k DOTs, so that no later rule takes it apart; the word,
// written in a text, counts too.
void HideDots(Text* t) {
  if (!Has(*t, U"..") && !Has(*t, U"DOTMULTI.")) return;
  Text out;
  for (size_t i = 0; i < t->size();) {
    size_t end = i;
    while (end < t->size() && (*t)[end] == '.') ++end;
    const size_t dots = end - i;
    if (dots == 1 && out.ends_with(U"DOTMULTI")) {
      out.resize(out.size() - 5);
      out += U"DOTMULTI";
      if (end < t->size()) out.push_back(' ');
      i = end;
    } else if (dots >= 2) {
      out.push_back(' ');
      for (size_t k = 0; k < dots; ++k) out += U"DOT";
      out += U"MULTI";
      if (end < t->size()) out.push_back(' ');
      i = end;
    } else {
      out.push_back((*t)[i++]);
    }
  }
  *t = std::move(out);
}
void ShowDots(Text* t) {
  if (!Has(*t, U"DOTMULTI")) return;
  Text out;
  for (size_t i = 0; i < t->size();) {
    size_t end = i, dots = 0;
    while (View(*t).substr(end).starts_with(U"DOT")) end += 3, ++dots;
    if (dots > 0 && View(*t).substr(end).starts_with(U"MULTI")) {
      out.append(dots, U'.');
      i = end + 5;
    } else {
      // Of "DOTDOT" without MULTI nothing changes; go on behind it.
      if (dots == 0) end = i + 1;
      out.append(*t, i, end - i);
      i = end;
    }
  }
  *t = std::move(out);
}

void SplitCommas(Text* t) {
  if (t->find(U',') == Text::npos) return;
  Text out;
  for (size_t i = 0; i < t->size();) {  // no number before the comma
    out.push_back((*t)[i]);
    if (i + 1 < t->size() && (*t)[i + 1] == ',' && !moses::IsNumber((*t)[i])) {
      out += U" , ";
      i += 2;
    } else {
      ++i;
    }
  }
  t->clear();
  for (size_t i = 0; i < out.size();) {  // none behind it
    if (out[i] == ',' && i + 1 < out.size() && !moses::IsNumber(out[i + 1])) {
      *t += U" , ";
      t->push_back(out[i + 1]);
      i += 2;
    } else {
      t->push_back(out[i++]);
    }
  }
  if (t->size() >= 2 && t->back() == ',' && moses::IsNumber((*t)[t->size() - 2])) {  // the text ends there
    t->pop_back();
    *t += U" , ";
  }
}

void SplitApostrophes(Text* t) {
  auto alpha = [](char32_t c) { return moses::IsAlpha(c); };
  auto other = [](char32_t c) { return !moses::IsAlpha(c); };
  ReplaceBetween(t, '\'', other, other, U" ' ");
  ReplaceBetween(
      t, '\'', [](char32_t c) { return !moses::IsAlpha(c) && !moses::IsNumber(c); }, alpha, U" ' ");
  ReplaceBetween(t, '\'', alpha, other, U" ' ");
  ReplaceBetween(t, '\'', alpha, alpha, U" '");
  ReplaceBetween(
      t, '\'', [](char32_t c) { return moses::IsNumber(c); }, [](char32_t c) { return c == 's'; }, U" '");
}

std::vector<View> Split(View text) {
  std::vector<View> words;
  for (size_t i = 0; i < text.size();) {
    if (IsPythonSpace(text[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && !IsPythonSpace(text[end])) ++end;
    words.push_back(text.substr(i, end - i));
    i = end;
  }
  return words;
}

// English words behind which a full stop ends no sentence. Single capitals are such words too.
bool IsNonbreaking(View prefix) {
  static const auto* words = new std::set<View>{
      U"Adj",   U"Adm",  U"Adv",  U"Asst", U"Bart", U"Bldg", U"Brig", U"Bros", U"Capt", U"Cmdr",   U"Col",
      U"Comdr", U"Con",  U"Corp", U"Cpl",  U"DR",   U"Dr",   U"Drs",  U"Ens",  U"Gen",  U"Gov",    U"Hon",
      U"Hr",    U"Hosp", U"Insp", U"Lt",   U"MM",   U"MR",   U"MRS",  U"MS",   U"Maj",  U"Messrs", U"Mlle",
      U"Mme",   U"Mr",   U"Mrs",  U"Ms",   U"Msgr", U"Op",   U"Ord",  U"Pfc",  U"Ph",   U"Prof",   U"Pvt",
      U"Rep",   U"Reps", U"Res",  U"Rev",  U"Rt",   U"Sen",  U"Sens", U"Sfc",  U"Sgt",  U"Sr",     U"St",
      U"Supt",  U"Surg", U"v",    U"vs",   U"i.e",  U"rev",  U"e.g",  U"Rs",   U"Nos",  U"Nr",     U"Jan",
      U"Feb",   U"Mar",  U"Apr",  U"Jun",  U"Jul",  U"Aug",  U"Sep",  U"Oct",  U"Nov",  U"Dec"};
  return (prefix.size() == 1 && prefix[0] >= 'A' && prefix[0] <= 'Z') || words->count(prefix) > 0;
}
bool IsNonbreakingBeforeNumbers(View prefix) {
  return prefix == U"No" || prefix == U"Art" || prefix == U"pp";
}

// Cuts the full stop off words that end in one, unless it belongs to the word.
Text SplitFullStops(const Text& text) {
  const std::vector<View> words = Split(text);
  Text out;
  out.reserve(text.size() + 16);
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out.push_back(' ');
    const View word = words[i];
    out.append(word);
    if (word.size() < 2 || word.back() != '.') continue;
    const View prefix = word.substr(0, word.size() - 1);
    const View next = i + 1 < words.size() ? words[i + 1] : View();
    const bool abbreviation =
        prefix.find('.') != View::npos && std::any_of(prefix.begin(), prefix.end(), moses::IsAlpha);
    const bool kept = abbreviation || IsNonbreaking(prefix) || (!next.empty() && moses::IsLower(next[0])) ||
                      (IsNonbreakingBeforeNumbers(prefix) && !next.empty() && next[0] >= '0' && next[0] <= '9');
    if (kept) continue;
    out.pop_back();
    out += U" .";
  }
  return out;
}

// "23,000" -> 23 @,@ 000.
void AddWords(View word, std::vector<std::string>* out) {
  Text part;
  for (size_t i = 0; i < word.size(); ++i) {
    const bool splits = (word[i] == ',' || word[i] == '.') && i > 0 && i + 1 < word.size() &&
                        IsDecimalDigit(word[i - 1]) && IsDecimalDigit(word[i + 1]);
    if (!splits) {
      part.push_back(word[i]);
      continue;
    }
    out->push_back(ToUtf8(part));
    out->push_back(word[i] == ',' ? "@,@" : "@.@");
    part.clear();
  }
  if (!part.empty()) out->push_back(ToUtf8(part));
}

}  // namespace

std::vector<std::string> MosesWords(std::u32string_view text, const std::vector<std::string>& protected_words) {
  Text t(StripPython(text));
  NormalizePunctuation(&t);
  CleanSpaces(&t);
  const std::vector<Text> found = Protect(&t, protected_words);
  t = Text(StripPython(t));
  PadSymbols(&t);
  SplitHyphens(&t);
  HideDots(&t);
  SplitCommas(&t);
  SplitApostrophes(&t);
  t = SplitFullStops(t);
  if (t.ends_with(U".'")) t.replace(t.size() - 2, 2, U" . ' ");
  Unprotect(&t, found);
  ShowDots(&t);
  std::vector<std::string> out;
  for (View word : Split(t)) AddWords(word, &out);
  return out;
}

}  // namespace tern
