// Opens .pte files with Netron's own JavaScript reader, as its page does, and prints what it has understood, one line of JSON a file:
//     node netron_open.mjs FOLDER_OF_NETRON FILE...
// The context below is the part of Netron's page that its reader asks for.

import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';

const [folder, ...files] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}`).href);
const base = await load('base.js');
const flatbuffers = await load('flatbuffers.js');
const executorch = await load('executorch.js');

class Context {
    constructor(data) {
        this.data = data;
    }

    async peek() {
        return flatbuffers.BinaryReader.open(this.data);
    }

    async read() {
        return base.BinaryReader.open(this.data);
    }

    set(type, value) {
        this.type = type;
        this.value = value;
        return type;
    }

    async require(id) {
        return load(`${id}.js`);
    }

    async asset(name) {
        return readFile(`${folder}/${name}`, 'utf-8');
    }
}

const argument = (one) => Array.isArray(one.value) && one.type === null ? one.value.map((value) => value.name) : one.value;
const text = (_, value) => typeof value === 'bigint' ? Number(value) : value;

for (const file of files) {
    const context = new Context(new Uint8Array(await readFile(file)));
    const factory = new executorch.ModelFactory();
    let found = {};
    try {
        if (!await factory.match(context)) {
            throw new Error('Netron does not take it for an ExecuTorch program.');
        }
        const model = await factory.open(context);
        const graphs = model.modules.map((graph) => {
            const constants = new Map();
            for (const node of graph.nodes) {
                for (const value of node.inputs.flatMap((one) => Array.isArray(one.value) ? one.value : [])) {
                    if (value && value.initializer) {
                        constants.set(value.name, { type: value.type.toString(), bytes: value.initializer.values.length });
                    }
                }
            }
            return {
                name: graph.name,
                inputs: graph.inputs.map((one) => one.value[0].type.toString()),
                outputs: graph.outputs.map((one) => Array.isArray(one.value) ? one.value[0].type.toString() : one.value),
                nodes: graph.nodes.map((node) => node.type.identifier),
                arguments: graph.nodes.map((node) => Object.fromEntries(node.inputs.map((one) => [one.name, argument(one)]))),
                constants: Object.fromEntries(constants)
            };
        });
        found = { format: model.format, graphs };
    } catch (error) {
        found = { error: error.message };
    }
    process.stdout.write(`${JSON.stringify(found, text)}\n`);
}
