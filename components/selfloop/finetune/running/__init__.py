"""How trainings run: started, spread over processes and nodes, checkpointed, resumed, and stopped in a sentence."""
