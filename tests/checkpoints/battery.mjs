// Texts that tokenizers differ on. None ends a word with a capital sigma: JavaScript makes a final one of it, which the
// tokenizers that models are trained with, in Rust, do not.
export const battery = [
  'Hello, world!',
  'This is an example sentence.',
  "I'm sure they've said we'll see what she'd done; it's THEY'RE, I'LL and WE'VE.",
  'antidisestablishmentarianism floccinaucinihilipilification',
  'MiXeD cAsE ÀÉÎÕÜ ñandú naïve façade Straße ΣΊΣΥΦΟ',
  '我想在苹果公司工作，你觉得怎么样？今天天气很好。',
  '繁體中文測試：臺灣、香港與澳門。',
  '日本語のテキスト、ひらがなとカタカナと漢字。ﾊﾝｶｸ',
  '한국어 문장도 있습니다.',
  'مرحبا بالعالم، كيف حالك اليوم؟',
  'שלום עולם',
  'Привет, мир! Ёлка и йод.',
  'नमस्ते दुनिया',
  'สวัสดีชาวโลก',
  '😀 😶‍🌫️ 👩‍👩‍👧‍👦 🇩🇪 ✅ 🦙🦙 ❤️',
  '3 33 333 3333 33333 3.14159 1,000,000 0x1F 1e-9 ١٢٣ Ⅷ ½',
  'def f(x):\n    return [i ** 2 for i in range(x) if i % 2 == 0]\n\n\nprint(f(10))\t# done\n',
  '#include <vector>\nint main() { std::vector<int> v{1, 2, 3}; return v[0] != 1 && !v.empty(); }\r\n',
  '{"a": [1, 2.5, null], "b\\n": "\\u00e9"}',
  '<p class="x">&amp; <!-- comment --></p>',
  'https://example.org/path?query=1&other=%20#fragment user.name+tag@example.org',
  ' leading', 'trailing ', '  two  spaces   three    four ', '\t\ttabs\t \tand spaces', 'line\nbreaks\n\nand\r\nmore\n\n\n', '   ', '\n', ' \n \n',
  'a', ' ', '.', '...', '------=======', "''''''``````\"\"\"\"......!!!!!!??????", '#$%^&*()_+-=[]{}|;\':",./<>?~`',
  'zero\u200bwidth\u200cjoiners\u200d and\u00a0no-break\u2003spaces\u3000ideographic',
  'soft\u00adhyphen \ufeffmark \u2028line \u2029paragraph',
  '𝕿𝖍𝖊 𝓺𝓾𝓲𝓬𝓴 ﬁne ﬂow Ａｂｃ １２３',
  'ab'.repeat(200), '😀'.repeat(40), '我'.repeat(60), 'x '.repeat(50),
]

// Bytes that are no UTF-8. They reach the engine as the daemon sends them: each broken part replaced, as everybody does.
export const broken = [
  [0xff, 0xfe, 0x41], [0x41, 0xc3], [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xed, 0xa0, 0x80, 0x42], [0xc0, 0x80, 0x20, 0x43],
].map(bytes => new TextDecoder().decode(Uint8Array.from(bytes)))
