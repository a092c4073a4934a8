/** The layers of docs/architecture.md: an import may only point to a layer further left. */
const agentLayers = ['core', 'store', 'cow', 'mirror', 'nbd', 'volume'];
const outerLayers = ['attach', 'csi', 'arbiter', 'api'];
const contract = '^agent/api/contract/';

const agentRules = agentLayers.map((layer, index) => ({
  name: `agent-${layer}-imports-only-what-is-left-of-it`,
  severity: 'error',
  from: { path: `^agent/${layer}/` },
  to: {
    path: '^(agent|operator|bin|scripts|test)/',
    pathNot: [...agentLayers.slice(0, index + 1).map((left) => `^agent/${left}/`), contract],
  },
}));

const operatorMay = {
  resources: [],
  planning: ['resources'],
  kube: ['resources'],
  'agent-client': ['resources'],
  certificates: ['resources', 'kube'],
  leader: ['resources', 'kube', 'agent-client'],
  controllers: ['resources', 'planning', 'kube', 'agent-client'],
  csi: ['resources', 'planning', 'kube'],
};
const operatorRules = Object.entries(operatorMay).map(([layer, may]) => ({
  name: `operator-${layer}-imports-only-what-it-may`,
  severity: 'error',
  from: { path: `^operator/${layer}/` },
  to: {
    path: '^(agent|operator|bin|scripts|test)/',
    pathNot: [contract, ...[layer, ...may].map((left) => `^operator/${left}/`)],
  },
}));

module.exports = {
  forbidden: [
    // The simulation's world and its inhabitants name each other's types, which the parser cannot tell from values.
    { name: 'no-cycles', severity: 'error', from: { pathNot: '^test/simulation/' }, to: { circular: true } },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'common-stands-alone',
      severity: 'error',
      from: { path: '^common/' },
      to: { path: '^(agent|operator|bin|scripts|test)/' },
    },
    {
      name: 'contract-imports-common-only',
      severity: 'error',
      from: { path: contract },
      to: { path: '^(agent|operator)/', pathNot: contract },
    },
    {
      name: 'operator-sees-only-the-contract-of-the-agent',
      severity: 'error',
      from: { path: '^operator/' },
      to: { path: '^agent/', pathNot: contract },
    },
    {
      name: 'agent-knows-nothing-of-the-operator',
      severity: 'error',
      from: { path: '^agent/' },
      to: { path: '^operator/' },
    },
    {
      name: 'only-bin-and-tests-start-things',
      severity: 'error',
      from: { path: '^(agent|operator)/.+/' },
      to: { path: '^(agent|operator)/main\\.ts$' },
    },
    {
      name: 'no-zod-in-the-threads-of-volumes',
      comment: 'It takes 7 MiB in each of them; see common/shapes.ts.',
      severity: 'error',
      from: { path: '^agent/(core|store|cow|mirror|nbd|volume)/' },
      to: { path: 'node_modules/zod/' },
    },
    ...agentRules,
    ...outerLayers.map((layer) => ({
      name: `agent-${layer}-imports-only-layers-left-of-it`,
      severity: 'error',
      from: { path: `^agent/${layer}/`, pathNot: contract },
      to: { path: '^agent/', pathNot: [...agentLayers.map((left) => `^agent/${left}/`), `^agent/${layer}/`, contract] },
    })),
    ...operatorRules,
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    // TypeScript 7 has no parser that can be called from JavaScript; without this, no .ts file would be seen at all.
    parser: 'swc',
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.cjs', '.mjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['node', 'import', 'require', 'default', 'types'],
    },
  },
};
